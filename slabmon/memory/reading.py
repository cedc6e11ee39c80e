# SPDX-License-Identifier: Apache-2.0
"""A reading of the kernel's own accounts of memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slabmon.base.fields import Int, Real, Text


@dataclass(frozen=True, kw_only=True)
class VmallocCaller:
    """What one caller of vmalloc() holds, since boot. `node_bytes` is where it lies, by NUMA node;
    `stacks` says that the areas are kernel stacks."""

    symbol: Text
    offset: Int
    module: Text | None = None
    areas: Int
    bytes: Int
    node_bytes: Mapping[Int, Int] = field(default_factory=dict)
    stacks: bool = False


@dataclass(frozen=True, kw_only=True)
class AllocTag:
    """What one line of the kernel's source has allocated since boot and not freed, in slabs and in
    pages (/proc/allocinfo). `calls` is a number of allocations. `accurate` is False if the kernel
    says that it missed some."""

    file: Text
    line: Int
    function: Text
    module: Text | None = None
    bytes: Int
    calls: Int
    accurate: bool = True


@dataclass(frozen=True, kw_only=True)
class MemoryReading:
    """The kernel's own accounts of the host's memory, at one instant.

    `amounts` are bytes: lines of /proc/meminfo by their names (`MemTotal`, `AnonPages`), and what
    other files say, in lower case (slabmon/kernel/memory/reading.py lists them). Lines that this
    kernel does not have are absent. They are not read at one instant: `moved_bytes` is how much
    memory changed hands meanwhile. `vmalloc` is None, and `page_pools`, bytes by network device,
    too, if they cannot be observed; `unobserved` says why. `allocinfo` is None where the kernel
    does not profile allocations, which few do.
    """

    taken: Real
    amounts: Mapping[Text, Int]
    moved_bytes: Int = 0
    vmalloc: tuple[VmallocCaller, ...] | None = None
    page_pools: Mapping[Text, Int] | None = None
    unobserved: Mapping[Text, Text] = field(default_factory=dict)
    allocinfo: tuple[AllocTag, ...] | None = None
