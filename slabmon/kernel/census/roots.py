# SPDX-License-Identifier: Apache-2.0
"""What memory outside slabs points to: variables, and areas of vmalloc, which the function is known
of that asked for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, U64, distinct
from slabmon.kernel.census import referrers
from slabmon.kernel.census.contents import UNIT, Subjects
from slabmon.kernel.census.evidence import Evidence, Label, Strength
from slabmon.kernel.census.members import Structs
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.merged import KERNEL
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.signatures import Namer
from slabmon.kernel.census.symbols import Symbols

_IOREMAP, _USERMAP = 0x1, 0x8  # VM_IOREMAP, VM_USERMAP (include/linux/vmalloc.h)
_LARGEST = 1 << 40  # bytes
_STACKS = ("init_stack", "init_thread_union")  # of the first task: functions leave anything there
_MOST_UNITS = 1 << 16  # of areas of vmalloc, at random of all: 256 MiB


def follow_variables(memory: Memory, read: Reading, namer: Namer, symbols: Symbols) -> None:
    """Name objects by the variables that point to them."""
    units = symbols.data_units()
    places, targets, into = referrers.in_pages(memory, read, namer.subjects, units)
    for symbol, rows in symbols.variables(places):
        if symbol.label in _STACKS:
            continue
        for verb, alike in (("pointed", into[rows] == 0), ("linked", into[rows] != 0)):
            text = f"{verb} to by variable {symbol.label}"
            label = Label(text, Strength.MEMBER, module=symbol.module)
            namer.evidence.add(label, distinct(targets[rows[alike]]))
        if symbol.module is None:
            namer.type_pointed_by(symbol.label, distinct(targets[rows[into[rows] == 0]]))


@dataclass(frozen=True)
class _Areas:
    """Areas of vmalloc: where each begins, its bytes, and the address that asked for it."""

    start: U64
    size: I64
    caller: U64


def follow_areas(
    memory: Memory,
    read: Reading,
    subjects: Subjects,
    types: I64,
    structs: Structs,
    symbols: Symbols,
    stacks: I64,
    evidence: Evidence,
) -> None:
    """Name objects by who allocated the areas of vmalloc that point to them.

    `types` are the structs of subjects, `stacks` those that describe a task's stack, which holds
    anything.
    """
    areas = _areas(subjects, types, structs, stacks)
    counts = areas.size // UNIT
    area = np.repeat(np.arange(len(counts)), counts)
    unit = np.arange(len(area)) - np.repeat(np.cumsum(counts) - counts, counts)
    if len(area) > _MOST_UNITS:
        rows = np.sort(np.random.default_rng(0).permutation(len(area))[:_MOST_UNITS])
        area, unit = area[rows], unit[rows]
    addresses = areas.start[area] + unit.astype(np.uint64) * np.uint64(UNIT)
    order = np.argsort(addresses)
    addresses, area = addresses[order], area[order]
    places, targets, _ = referrers.in_pages(memory, read, subjects, addresses)
    callers = areas.caller[area[np.searchsorted(addresses, places, side="right") - 1]]
    for caller in np.unique(callers).tolist():
        symbol = symbols.function(caller)
        if symbol is not None:
            text = f"pointed to by vmalloc memory of {symbol.label}"
            label = Label(text, Strength.AREA, module=symbol.module)
            evidence.add(label, distinct(targets[callers == caller]))


def _areas(subjects: Subjects, types: I64, structs: Structs, stacks: I64) -> _Areas:
    """Decode what is known to be a struct vm_struct. Those that map no memory of the kernel, or are
    mapped to a process, are left out."""
    struct = structs.find("vm_struct")
    members = [
        structs.offset(struct, name) for name in ("addr", "size", "flags", "pages", "caller")
    ]
    areas = np.flatnonzero(types == struct) if struct else np.zeros(0, np.int64)
    if None in members or not len(areas):
        return _Areas(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.uint64))
    start, size, flags, pages, caller = (
        subjects.word(areas, offset) for offset in members if offset is not None
    )
    usable = (pages != 0) & (flags & np.uint64(_IOREMAP | _USERMAP) == 0)
    usable &= (start | size) % np.uint64(UNIT) == 0
    usable &= (start >= KERNEL) & (size < np.uint64(_LARGEST))
    # Stacks of tasks that are gone are kept for others: they are asked for at the same place.
    usable &= ~np.isin(caller, caller[np.isin(areas, stacks)])
    return _Areas(start[usable], size[usable].astype(np.int64), caller[usable])
