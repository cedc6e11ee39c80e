# SPDX-License-Identifier: Apache-2.0
"""Which of some objects are no longer allocated, however they were freed."""

from __future__ import annotations

import time

from slabmon.base.arrays import U64, Bool
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Budget, KernelMemory, start_compiler
from slabmon.kernel.census.reading import read
from slabmon.kernel.census.slabs import NONE, Slabs
from slabmon.kernel.probe import btf


def find_freed(addresses: U64, cpu_seconds: float) -> Bool:
    """Return which of these addresses of slab objects are of free objects, or of no slab any more.

    Reads all slabs once, with at most `cpu_seconds` of this process's CPU time. Raises SlabmonError
    if that does not suffice, or if this kernel's slabs cannot be read.
    """
    with start_compiler() as compiler:
        layout = Layout.of(btf.read_vmlinux())
        programs = compiler.finish()
    with programs:
        budget = Budget(time.process_time() + cpu_seconds)
        reading = read(KernelMemory(programs, budget), layout)
        return freed(addresses, reading.slabs, reading.free)


def freed(addresses: U64, slabs: Slabs, free: Bool) -> Bool:
    """Return which addresses are of objects that are `free` (objects), or in none of the slabs."""
    numbers = slabs.find(addresses)
    result: Bool = numbers == NONE
    result[~result] = free[numbers[~result]]
    return result
