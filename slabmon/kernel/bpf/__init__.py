# SPDX-License-Identifier: Apache-2.0
"""bpf(2), mapped maps, the ring buffer, and record layouts shared with the C sources."""
