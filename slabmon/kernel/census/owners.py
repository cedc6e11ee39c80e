# SPDX-License-Identifier: Apache-2.0
"""Whose the objects in use are: rows of owners, of all caches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slabmon.base.arrays import F64, I64
from slabmon.census.model import Certainty, OwnedObjects, WidestUnknown
from slabmon.kernel.census import naming
from slabmon.kernel.census.cache_types import Aliases, CacheTypes
from slabmon.kernel.census.contents import NONE, Subjects
from slabmon.kernel.census.evidence import Label, Strength, numbered
from slabmon.kernel.census.members import Structs
from slabmon.kernel.census.memory import BudgetSpent, Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.naming import Named
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.referrers import Progress, Referrers
from slabmon.kernel.census.settings import MEMORY_OPTION, CensusSettings
from slabmon.kernel.census.symbols import Symbols
from slabmon.kernel.census.types import Types
from slabmon.model import LARGE_CACHE

_RESERVE = 40 << 20  # bytes, for pointers and what is computed of them
_SUBJECTS_SHARE = 1 / 2  # of the other memory left, for objects of mixed caches
_LEAST_BYTES = 1 << 20
_TRIES = 3
_MOST_GROUPS = 100  # of one cache; the smallest together are one row
_SLAB_BITS = 40
_NOTHING_KNOWN = Label("unknown", Strength.OWNER)


@dataclass(frozen=True)
class Owners:
    """Rows, largest first, and which share of slabs their signatures are from: False if all. The
    others as in Census."""

    rows: tuple[OwnedObjects, ...]
    sampled: float | bool = False
    contradictions: int = 0
    widest_unknown: WidestUnknown | None = None
    limits: tuple[str, ...] = ()


def room_for_subjects(settings: CensusSettings) -> int:
    """Return the bytes that objects of mixed caches may take, of what this process has left."""
    used = int(Path("/proc/self/statm").read_text().split()[5]) * PAGE_BYTES
    left = (settings.memory_mib << 20) - used - _RESERVE
    return max(int(left * _SUBJECTS_SHARE), _LEAST_BYTES)


def owner_rows(
    memory: Memory,
    read: Reading,
    types: Types,
    aliases: Aliases,
    symbols: Symbols,
    settings: CensusSettings,
    most_bytes: int,
    progress: Progress = lambda _: None,
) -> Owners:
    """Return whose all objects in use are; report which share of slabs was searched.
    `most_bytes` are for what is kept of objects of mixed caches."""
    structs = Structs(types)
    caches = CacheTypes(read, types, structs, aliases)
    named = _named_rows(read, caches, structs)
    reason = f"{settings.memory_mib} MiB of memory did not suffice; allow more with {MEMORY_OPTION}"
    for _ in range(_TRIES):
        try:
            mixed = _mixed_rows(
                memory, read, structs, caches, symbols, settings, most_bytes, progress
            )
        except MemoryError:  # objects with more pointers than others have: so many fewer of them
            most_bytes //= 2
        except BudgetSpent as error:
            reason = str(error)
            break
        else:
            return dataclasses.replace(mixed, rows=_ordered((*named, *mixed.rows)))
    limit = f"whose the objects of mixed caches are was not found: {reason}"
    return Owners(rows=_ordered(named), limits=(limit,))


def _ordered(rows: Iterable[OwnedObjects]) -> tuple[OwnedObjects, ...]:
    return tuple(sorted(rows, key=lambda row: (-row.bytes, row.cache, row.signature)))


def _mixed_rows(
    memory: Memory,
    read: Reading,
    structs: Structs,
    caches: CacheTypes,
    symbols: Symbols,
    settings: CensusSettings,
    most_bytes: int,
    progress: Progress,
) -> Owners:
    """Return whose the objects of caches are that hold all kinds."""
    named = naming.name(memory, read, caches, structs, symbols, settings, most_bytes, progress)
    share = named.subjects.share
    return Owners(
        rows=tuple(_signature_rows(read, named, structs, caches.names)),
        sampled=share if share < 1 else False,
        contradictions=named.contested,
        widest_unknown=_widest_unknown(named, caches.names),
        limits=_limits(share, named.searched),
    )


def _widest_unknown(named: Named, names: Sequence[str]) -> WidestUnknown | None:
    """Describe the group of no known struct that leads to most others; of caches whose slabs were
    sampled, counts are estimates."""
    if named.widest is None:
        return None
    cache, label, objects, reached = named.widest
    subjects = named.subjects
    scale = np.array(subjects.scale)[subjects.cache[reached]]
    return WidestUnknown(
        cache=names[cache] if cache < len(names) else LARGE_CACHE,
        signature=(_NOTHING_KNOWN if label == NONE else named.known[label]).text,
        objects=round(len(objects) * subjects.scale[cache]),
        reached_objects=round(scale.sum()),
        reached_bytes=round((scale * subjects.length[reached] * 8).sum()),
    )


@dataclass(frozen=True)
class Kind:
    """What an object is, as in OwnedObjects."""

    type: str | None
    module: str | None
    signature: str
    certainty: Certainty


@dataclass(frozen=True)
class Kinds:
    """Subjects with the label of each, a row of `known` or NONE, and what its cache is called."""

    named: Named
    structs: Structs
    names: Sequence[str]

    @property
    def labels(self) -> I64:
        """The label of each subject, NONE for none."""
        return self.named.labels

    def of(self, subject: int) -> Kind:
        """Return what a subject is."""
        label = int(self.named.labels[subject])
        return _kind(self.structs, self.named.known[label] if label != NONE else None)


def kinds_of(
    memory: Memory,
    read: Reading,
    subjects: Subjects,
    pointers: Referrers,
    types: Types,
    aliases: Aliases,
    symbols: Symbols,
) -> Kinds:
    """Return what these objects, of any cache, are, by what is in them and these pointers."""
    structs = Structs(types)
    caches = CacheTypes(read, types, structs, aliases)
    pointers = naming.without_sheaves(pointers, read, subjects, structs)
    named = naming.name_subjects(memory, read, subjects, pointers, caches, structs, symbols)
    labels, known = named.labels, list(named.known)
    for cache in np.unique(subjects.cache).tolist():
        if cache < len(caches.names) and not caches.mixed[cache]:
            struct = caches.types.get(cache, 0)
            labels[subjects.cache == cache] = len(known)
            known.append(Label(_own_objects(structs, struct), Strength.TYPE, struct))
    return Kinds(dataclasses.replace(named, labels=labels, known=known), structs, caches.names)


def subject_rows(read: Reading, kinds: Kinds) -> list[OwnedObjects]:
    """Return rows of these objects, by cache and by what they are."""
    return _signature_rows(read, kinds.named, kinds.structs, kinds.names)


def _kind(structs: Structs, label: Label | None) -> Kind:
    if label is None:
        return Kind(None, None, _NOTHING_KNOWN.text, Certainty.UNKNOWN)
    struct = structs.name(label.struct) if label.struct else None
    return Kind(struct, label.module, label.text, Certainty.LIKELY)


def _own_objects(structs: Structs, struct: int) -> str:
    return f"struct {structs.name(struct)}" if struct else "the cache's own objects"


def _limits(share: float, referrers_share: float) -> tuple[str, ...]:
    texts = []
    if share < 1:
        texts.append(
            f"of the slabs of mixed caches, {share:.0%} were read, at random of the largest "
            "caches, to find whose their objects are; allow more with --memory-mib"
        )
    if referrers_share < 1:
        texts.append(
            f"of all slabs, {referrers_share:.0%} were searched for pointers to objects of mixed "
            "caches; allow more with --cpu-seconds"
        )
    return tuple(texts)


def _named_rows(read: Reading, caches: CacheTypes, structs: Structs) -> list[OwnedObjects]:
    """Return a row for each cache that holds one kind of objects."""
    counts = np.bincount(read.slabs.cache, weights=read.in_use, minlength=len(caches.names))
    sizes = read.slabs.caches.size.tolist()
    rows = []
    for row, count in enumerate(counts.astype(int).tolist()):
        if caches.mixed[row] or not count:
            continue
        struct = caches.types.get(row, 0)
        rows.append(
            OwnedObjects(
                cache=caches.names[row],
                type=structs.name(struct) if struct else None,
                signature=_own_objects(structs, struct),
                certainty=Certainty.EXACT,
                objects=count,
                bytes=count * sizes[row],
            )
        )
    return rows


def _signature_rows(
    read: Reading, named: Named, structs: Structs, names: Sequence[str]
) -> list[OwnedObjects]:
    """Return rows of mixed caches. Counts of caches whose slabs were sampled are estimates."""
    subjects, known = named.subjects, named.known
    groups = named.labels + 1
    keys = subjects.cache * (len(known) + 1) + groups
    found, inverse, counts = numbered(keys)
    occupied = np.bincount(inverse, weights=subjects.length * 8)
    errors = _standard_errors(subjects, inverse, counts)
    sizes = read.slabs.caches.size.tolist()
    rows: dict[int, list[OwnedObjects]] = {}
    for place, key in enumerate(found.tolist()):
        cache, group = divmod(key, len(known) + 1)
        kind = _kind(structs, known[group - 1] if group else None)
        objects = round(counts[place] * subjects.scale[cache])
        rows.setdefault(cache, []).append(
            OwnedObjects(
                cache=names[cache] if cache < len(names) else LARGE_CACHE,
                type=kind.type,
                module=kind.module,
                signature=kind.signature,
                certainty=kind.certainty,
                objects=objects,
                objects_stderr=float(errors[place]),
                bytes=objects * sizes[cache]
                if cache < len(names)
                else round(occupied[place] * subjects.scale[cache]),
            )
        )
    return [row for cache_rows in rows.values() for row in _largest(cache_rows)]


def _standard_errors(subjects: Subjects, group: I64, counts: I64) -> F64:
    """Return the standard error of each group's estimated number of objects: its slabs are a simple
    random sample of those of its cache (Cochran, Sampling Techniques, 1977, section 2.6)."""
    cache_of_group = np.zeros(len(counts), np.int64)
    cache_of_group[group] = subjects.cache
    scale = np.array(subjects.scale)
    pairs, _, _ = numbered(subjects.cache << _SLAB_BITS | (subjects.slab + 1))
    slabs = np.bincount(pairs >> _SLAB_BITS, minlength=len(scale))[cache_of_group]
    pairs, _, per_slab = numbered(group << _SLAB_BITS | (subjects.slab + 1))
    squares = np.bincount(pairs >> _SLAB_BITS, weights=per_slab**2.0, minlength=len(counts))
    variance = np.maximum(squares - counts**2.0 / slabs, 0) / np.maximum(slabs - 1, 1)
    total = slabs * scale[cache_of_group]
    unread = np.maximum(1 - 1 / scale[cache_of_group], 0)
    errors: F64 = total * np.sqrt(unread * variance / slabs)
    return errors


def _largest(rows: list[OwnedObjects]) -> list[OwnedObjects]:
    """Return the rows of one cache, its smallest groups as one."""
    rows.sort(key=lambda row: -row.bytes)
    rest = [row for row in rows[_MOST_GROUPS:] if row.certainty is Certainty.LIKELY]
    if len(rest) < 2:
        return rows
    others = OwnedObjects(
        cache=rows[0].cache,
        signature=f"{len(rest)} small groups",
        certainty=Certainty.LIKELY,
        objects=sum(row.objects for row in rest),
        objects_stderr=sum(row.objects_stderr**2 for row in rest) ** 0.5,
        bytes=sum(row.bytes for row in rest),
    )
    return [row for row in rows if row not in rest] + [others]
