# SPDX-License-Identifier: Apache-2.0
"""slabmon: an eBPF live kernel-allocation monitor for Linux hosts."""

__version__ = "0.2.0"
