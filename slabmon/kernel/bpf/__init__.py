# SPDX-License-Identifier: Apache-2.0
"""bpf(2) system calls, mapped maps, the ring buffer, record layouts shared with the C sources."""
