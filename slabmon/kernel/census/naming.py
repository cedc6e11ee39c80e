# SPDX-License-Identifier: Apache-2.0
"""Names the objects of mixed caches, by all evidence there is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64
from slabmon.kernel.census import chains, contents, holders, referrers, roots
from slabmon.kernel.census.cache_types import CacheTypes
from slabmon.kernel.census.contents import NONE, Subjects
from slabmon.kernel.census.evidence import Label
from slabmon.kernel.census.members import Structs
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.merged import Judge
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.referrers import Progress, Referrers
from slabmon.kernel.census.settings import CensusSettings
from slabmon.kernel.census.signatures import Namer
from slabmon.kernel.census.symbols import Symbols

_CPU_SHARE = 1 / 2  # of the CPU time left, for pointers to subjects
_ROUNDS = 3  # of groups that name what they point to


@dataclass(frozen=True)
class Named:
    """Subjects, the label of each, a row of `known` or NONE, and the share of all slabs that were
    searched for pointers to them."""

    subjects: Subjects
    labels: I64
    known: Sequence[Label]
    searched: float


def name(
    memory: Memory,
    read: Reading,
    caches: CacheTypes,
    structs: Structs,
    symbols: Symbols,
    settings: CensusSettings,
    most_bytes: int,
    progress: Progress = lambda _: None,
) -> Named:
    """Read the objects of mixed caches, as far as `most_bytes` allow, and name them; report which
    share of all slabs was searched for pointers to them."""
    chosen, share = contents.choose(read.slabs, caches.mixed, most_bytes)
    subjects = contents.read(memory, read, chosen, share)
    used = time.process_time()
    deadline = used + (settings.cpu_seconds - used) * _CPU_SHARE
    pointers = referrers.find(memory, read, subjects, deadline, progress)
    return name_subjects(memory, read, subjects, pointers, caches, structs, symbols)


def name_subjects(
    memory: Memory,
    read: Reading,
    subjects: Subjects,
    pointers: Referrers,
    caches: CacheTypes,
    structs: Structs,
    symbols: Symbols,
) -> Named:
    """Name objects, of any cache, by what is in them and these pointers."""
    namer = Namer(subjects, structs, read.slabs.caches.object_size, caches.names, pointers.between)
    _name_types(memory, read, namer, pointers, caches, structs, symbols)
    evidence = namer.evidence
    roots.follow_variables(memory, read, subjects, symbols, evidence)
    stacks = _stacks(pointers, caches, structs)
    roots.follow_areas(memory, read, subjects, namer.types, structs, symbols, stacks, evidence)
    holders.follow(memory, read, subjects, pointers.named, caches, structs, symbols, namer.evidence)
    chain = chains.find(subjects, pointers.between, namer.choose() == NONE)
    for _ in range(_ROUNDS):
        namer.follow_chains(chain, namer.choose())
        namer.follow_groups(namer.choose())
    namer.read_tables(read.slabs, namer.choose())
    return Named(subjects, namer.choose(), evidence.labels, pointers.share)


def _name_types(
    memory: Memory,
    read: Reading,
    namer: Namer,
    pointers: Referrers,
    caches: CacheTypes,
    structs: Structs,
    symbols: Symbols,
) -> None:
    """Find the structs of subjects."""
    subjects, slabs = namer.subjects, read.slabs
    _name_extensions(namer, read, structs)
    namer.read_words(memory, symbols)
    namer.follow_named(pointers.named, caches.types)
    namer.follow()
    judge = Judge(memory, subjects, structs, slabs, symbols, caches.types)
    for cache, candidates in caches.candidates.items():
        objects = np.flatnonzero((subjects.cache == cache) & (namer.types == 0))
        if len(objects) and candidates:
            verdicts = judge.choose(objects, candidates)
            for struct in candidates:
                text = f"struct {structs.name(struct)}"
                namer.set_type(objects[verdicts == struct], struct, text)
    namer.follow()


def _name_extensions(namer: Namer, read: Reading, structs: Structs) -> None:
    """Vectors of object extensions, which slabs point to, are in caches of kmalloc."""
    target, into = namer.subjects.find(read.slabs.exts[read.slabs.exts != 0])
    objects = np.unique(target[(target != NONE) & (into == 0)])
    struct = structs.find("slabobj_ext")
    namer.set_type(objects, struct, "extensions of slab objects (slab.obj_exts)")


def _stacks(pointers: Referrers, caches: CacheTypes, structs: Structs) -> I64:
    """Return the subjects that tasks' stacks are described by."""
    task = structs.find("task_struct")
    offset = structs.offset(task, "stack_vm_area")
    named = pointers.named
    tasks = [cache for cache, struct in caches.types.items() if struct == task]
    rows = np.flatnonzero(np.isin(named.source, tasks) & (named.offset == (offset or 0)))
    return np.unique(named.target[rows].astype(np.int64))
