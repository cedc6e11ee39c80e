# SPDX-License-Identifier: Apache-2.0
"""Names the objects of mixed caches, by all evidence there is."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, Bool
from slabmon.kernel.census import (
    chains,
    contents,
    holders,
    referrers,
    roots,
    trees,
    unknown,
    vmap_areas,
)
from slabmon.kernel.census.cache_types import CacheTypes
from slabmon.kernel.census.claims import Weight
from slabmon.kernel.census.contents import NONE, Subjects
from slabmon.kernel.census.derived import Derived
from slabmon.kernel.census.evidence import Label, Strength
from slabmon.kernel.census.members import Structs
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.merged import Judge
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.referrers import Pointers, Progress, Referrers
from slabmon.kernel.census.settings import CensusSettings
from slabmon.kernel.census.signatures import Namer
from slabmon.kernel.census.statics import Statics
from slabmon.kernel.census.symbols import Symbols
from slabmon.kernel.census.unknown import Widest

_CPU_SHARE = 1 / 2  # of the CPU time left, for pointers to subjects
_TYPE_ROUNDS = 4  # of what is outside slabs, of trees, and of structs in structs
_ROUNDS = 3  # of groups that name what they point to


@dataclass(frozen=True)
class Named:
    """Subjects, the label of each, a row of `known` or NONE, and the share of all slabs that were
    searched for pointers to them. Evidence contradicts itself on `contested` subjects; `widest` is
    the group of no known struct that leads to most others."""

    subjects: Subjects
    labels: I64
    known: Sequence[Label]
    searched: float
    contested: int
    widest: Widest | None = None


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
    pointers = without_sheaves(
        referrers.find(memory, read, subjects, deadline, progress), read, subjects, structs
    )
    named = name_subjects(memory, read, subjects, pointers, caches, structs, symbols)
    widest = unknown.widest(subjects, pointers.between, named.labels, named.known)
    return dataclasses.replace(named, widest=widest)


def name_subjects(
    memory: Memory,
    read: Reading,
    subjects: Subjects,
    pointers: Referrers,
    caches: CacheTypes,
    structs: Structs,
    symbols: Symbols,
) -> Named:
    """Name objects, of any cache, by what is in them and these pointers, which are
    without_sheaves()."""
    pointers = vmap_areas.without_freed(memory, read, subjects, pointers, caches, structs)
    named, between = pointers.named, pointers.between
    namer = Namer(subjects, structs, read.slabs.caches.object_size, caches.names, between)
    sheaves = np.flatnonzero(_sheaves(read, subjects, structs))
    namer.set_type(sheaves, structs.find("slab_sheaf"), "struct slab_sheaf", Weight.KNOWN)
    roots.follow_variables(memory, read, namer, symbols)
    _name_types(memory, read, namer, named, caches, structs, symbols)
    evidence = namer.evidence
    stacks = _stacks(named, caches, structs)
    roots.follow_areas(memory, read, subjects, namer.types, structs, symbols, stacks, evidence)
    holders.follow(memory, read, subjects, namer.types, named, caches, structs, symbols, evidence)
    chain = chains.find(subjects, between, namer.choose() == NONE)
    for _ in range(_ROUNDS):
        namer.follow_chains(chain, namer.choose())
        namer.follow_groups(namer.choose())
    namer.read_tables(read.slabs, namer.choose())
    labels = namer.choose()
    return Named(subjects, labels, evidence.labels, pointers.share, namer.claims.contested)


def _name_types(
    memory: Memory,
    read: Reading,
    namer: Namer,
    named: Pointers,
    caches: CacheTypes,
    structs: Structs,
    symbols: Symbols,
) -> None:
    """Find the structs of subjects."""
    subjects = namer.subjects
    _name_extensions(namer, read, structs)
    namer.read_words(memory, symbols)
    namer.follow_named(named, caches.types)
    namer.follow()
    judge = Judge(memory, subjects, structs, read, symbols, caches.types)
    for cache, candidates in caches.candidates.items():
        objects = np.flatnonzero((subjects.cache == cache) & (namer.types == 0))
        if len(objects) and candidates:
            verdicts = judge.choose(objects, candidates)
            for struct in candidates:
                text = f"struct {structs.name(struct)}"
                namer.set_type(objects[verdicts == struct], struct, text, Weight.JUDGED)
    namer.follow()
    nodes = trees.find(memory, read, subjects, named, caches, structs)
    longer = Derived(namer, structs, judge)
    static = Statics(memory, read, subjects, caches, structs, symbols)
    for _ in range(_TYPE_ROUNDS):
        known = np.count_nonzero(namer.types)
        static.follow(namer)
        trees.follow(namer, nodes, structs)
        namer.find_containers(judge)
        namer.find_pointees(judge)
        longer.find()
        namer.follow()
        if np.count_nonzero(namer.types) == known:
            break


def _name_extensions(namer: Namer, read: Reading, structs: Structs) -> None:
    """Vectors of object extensions, which slabs point to, are in caches of kmalloc. Before 6.10
    they are of pointers to struct obj_cgroup."""
    target, into = namer.subjects.find(read.slabs.exts[read.slabs.exts != 0])
    objects = np.unique(target[(target != NONE) & (into == 0)])
    struct = structs.find("slabobj_ext")
    text = "extensions of slab objects (slab.obj_exts)"
    if struct:
        namer.set_type(objects, struct, text, Weight.KNOWN)
    else:
        namer.evidence.add(Label(text, Strength.TYPE), objects)


def _sheaves(read: Reading, subjects: Subjects, structs: Structs) -> Bool:
    """Return which subjects are sheaves (mm/slub.c, 6.18+): their objects are free, and behind them
    addresses stay of objects that no longer are."""
    caches = read.slabs.caches
    struct = structs.find("slab_sheaf")
    owner, first = structs.offset(struct, "cache"), structs.offset(struct, "objects")
    sheaves = np.zeros(len(subjects), bool)
    if owner is None or first is None:
        return sheaves
    long = np.flatnonzero(subjects.length * 8 >= first)
    cache = subjects.word(long, owner)
    number = np.minimum(np.searchsorted(caches.address, cache), len(caches.address) - 1)
    known = (caches.address[number] == cache) & (caches.cpu_sheaves[number] != 0)
    needed = first + 8 * caches.sheaf_capacity[number]
    size = subjects.length[long] * 8
    sheaves[long] = known & (needed <= size) & (size < 2 * needed)
    return sheaves


def without_sheaves(
    pointers: Referrers, read: Reading, subjects: Subjects, structs: Structs
) -> Referrers:
    """Return the pointers that are not in subjects which are sheaves."""
    between = pointers.between
    kept = ~_sheaves(read, subjects, structs)[between.source]
    if kept.all():
        return pointers
    columns = (between.source, between.offset, between.target, between.into)
    return dataclasses.replace(pointers, between=Pointers(*(each[kept] for each in columns)))


def _stacks(named: Pointers, caches: CacheTypes, structs: Structs) -> I64:
    """Return the subjects that tasks' stacks are described by."""
    task = structs.find("task_struct")
    offset = structs.offset(task, "stack_vm_area")
    tasks = [cache for cache, struct in caches.types.items() if struct == task]
    rows = np.flatnonzero(np.isin(named.source, tasks) & (named.offset == (offset or 0)))
    return np.unique(named.target[rows].astype(np.int64))
