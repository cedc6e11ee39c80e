# SPDX-License-Identifier: Apache-2.0
"""Waits for the kernel's deferred work, as far as user space can."""

from __future__ import annotations

import ctypes
import os

# membarrier(2); its number on the machines that slabmon supports.
_MEMBARRIER = {"x86_64": 324, "aarch64": 283}
_GLOBAL = 1  # MEMBARRIER_CMD_GLOBAL: synchronize_rcu() (kernel/sched/membarrier.c)


def synchronize_rcu() -> None:
    """Wait for an RCU grace period. Callbacks that were queued before become due; they run soon
    after. Does nothing where the kernel refuses it, as with nohz_full."""
    number = _MEMBARRIER.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(number, _GLOBAL, 0, 0)
