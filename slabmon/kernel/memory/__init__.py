# SPDX-License-Identifier: Apache-2.0
"""The kernel's own accounts of the host's memory: /proc, /sys, netlink."""
