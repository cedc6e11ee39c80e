# SPDX-License-Identifier: Apache-2.0
"""Groups of objects by what is known of whose they are.

Evidence of one object: a pointer to its start from a member of a known struct that points to a
struct of its size (its type), functions and tables of functions whose addresses it holds, and the
member or cache that points to it. The most specific evidence names an object, of equally specific
the most frequent: so that objects alike come into one group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from slabmon.base.arrays import I32, I64, U64, Bool
from slabmon.kernel.census.caches import is_kmalloc
from slabmon.kernel.census.contents import NONE, Subjects
from slabmon.kernel.census.members import NO_LINK, Slot, Structs, label
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.referrers import Pointers
from slabmon.kernel.census.slabs import Slabs
from slabmon.kernel.census.symbols import Symbol, Symbols

_ROUNDS = 12
# mm/slab_common.c: kmalloc_info[]. The smallest are missing where caches are lines of that size.
_KMALLOC_SIZES = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
_TABLE, _TABLE_WORDS = 8, 4096  # least pointers of a table, and words of it that are read
_TABLES_AT_ONCE = 256
_PIECE = 1 << 17  # words, or pointers, looked at at once
_OFFSET_BITS = 24  # of an offset in bytes
_OFFSETS = (1 << _OFFSET_BITS) - 1
_MANY_SIZES = 4  # what objects of so many sizes hold says little of whose they are


class Strength(IntEnum):
    """How much evidence says, least first. One step outweighs a group ten times as frequent."""

    OWNER = 0  # pointed to by objects of a group
    CACHE = 1  # pointed to by objects of a cache
    COMMON = 2  # holds a function that all kinds of objects hold
    LINK = 3  # in a list or tree with, or headed by, a member of a struct
    MEMBER = 6  # pointed to by a member of a struct
    SYMBOL = 7  # holds a function, or a table of functions
    TYPE = 20  # of this struct


@dataclass(frozen=True)
class Label:
    """What evidence says, for people; the struct and module it names."""

    text: str
    strength: Strength
    struct: int = 0
    module: str | None = None


class Evidence:
    """Labels, and the objects that each is of."""

    def __init__(self) -> None:
        self.labels: list[Label] = []
        self._objects: list[list[I32]] = []
        self._numbers: dict[Label, int] = {}

    def add(self, label: Label, objects: I64) -> None:
        """Add what is known of these objects."""
        if not len(objects):
            return
        number = self._numbers.setdefault(label, len(self.labels))
        if number == len(self.labels):
            self.labels.append(label)
            self._objects.append([])
        self._objects[number].append(objects.astype(np.int32))

    def objects(self, number: int) -> I64:
        """Return the objects that a label is of."""
        parts = self._objects[number]
        if len(parts) > 1:
            parts[:] = [np.unique(np.concatenate(parts))]
        return parts[0].astype(np.int64)


class Namer:
    """Names subjects. `object_sizes` are of caches, and `kmalloc` says which of them are
    kmalloc's, whose sizes are those to which kmalloc() rounds."""

    def __init__(
        self,
        subjects: Subjects,
        structs: Structs,
        object_sizes: I64,
        names: Sequence[str],
    ) -> None:
        self._subjects = subjects
        self._structs = structs
        self._names = names
        self._sizes = subjects.length * 8
        kmalloc = np.array([is_kmalloc(name) for name in names], bool)
        least = int(object_sizes[kmalloc].min(initial=_KMALLOC_SIZES[-1]))
        self._buckets = np.array([size for size in _KMALLOC_SIZES if size >= least])
        self._of_kmalloc = np.append(kmalloc, True)[subjects.cache]
        self.types = np.zeros(len(subjects), np.int64)  # struct of each subject; 0: not known
        self._followed = np.zeros(len(subjects), bool)
        self.contradictions = 0
        self.evidence = Evidence()

    def fits(self, struct: int, objects: I64) -> Bool:
        """Return which objects have the size in which a struct would be allocated."""
        size, sizes = self._structs.size(struct), self._sizes[objects]
        if not size:
            return np.zeros(len(objects), bool)
        place = np.searchsorted(self._buckets, size)
        bucket = self._buckets[place] if place < len(self._buckets) else -(-size // 4096) * 4096
        exact = np.where(
            self._of_kmalloc[objects], sizes == bucket, (size <= sizes) & (sizes < size + 64)
        )
        longer = self._structs.flexible(struct)
        fitting: Bool = np.logical_or(exact, longer & (size <= sizes))
        return fitting

    def set_type(self, objects: I64, struct: int, text: str) -> I64:
        """Say that objects are of a struct; return those that are not known to be of another."""
        known = self.types[objects]
        agreed: I64 = objects[(known == 0) | (known == struct)]
        self.contradictions += len(objects) - len(agreed)
        self.types[agreed] = struct
        self.evidence.add(Label(text, Strength.TYPE, struct), agreed)
        return agreed

    def follow(self, between: Pointers) -> None:
        """Name what members of subjects of known structs point to, then of what these point to,
        until nothing is new."""
        for _ in range(_ROUNDS):
            fresh = (self.types != 0) & ~self._followed
            if not fresh.any():
                return
            self._followed |= fresh
            for part in _pieces(np.flatnonzero(fresh[between.source])):
                rows = between.rows(part)
                self._follow_members(self.types[rows.source], rows)

    def follow_named(self, named: Pointers, cache_types: Mapping[int, int]) -> None:
        """Name what objects of named caches point to. `cache_types` are their structs."""
        structs = np.zeros(len(self._names) + 1, np.int64)
        for cache, struct in cache_types.items():
            structs[cache] = struct
        for part in _pieces(np.flatnonzero(structs[named.source] != 0)):
            rows = named.rows(part)
            self._follow_members(structs[rows.source], rows)
        for part in _pieces(np.flatnonzero(structs[named.source] == 0)):
            rows = named.rows(part)
            for key, alike in _groups(rows.source << _OFFSET_BITS | rows.offset):
                name, offset = self._names[key >> _OFFSET_BITS], key & _OFFSETS
                pointed = Label(f"pointed to by {name}+{offset}", Strength.CACHE)
                self.evidence.add(pointed, _distinct(rows.target[alike]))

    def _follow_members(self, structs: I64, rows: Pointers) -> None:
        for key, alike in _groups(structs << _OFFSET_BITS | rows.offset):
            struct, offset = key >> _OFFSET_BITS, key & _OFFSETS
            self._follow_slot(struct, offset, rows.target[alike], rows.into[alike])

    def _follow_slot(self, struct: int, offset: int, targets: I64, into: I64) -> None:
        """Name what one word of one struct points to."""
        slots = self._structs.slots(struct).get(offset, ())
        links = [slot for slot in slots if slot.link != NO_LINK]
        pointers = [slot for slot in slots if slot.pointer]
        if links and len(links) == len(slots):
            named = self._type_linked(struct, links[0], targets, into)
            kind, strength, shown = "linked to", Strength.LINK, slots
        else:
            named = self._type_pointed(pointers, _distinct(targets[into == 0]))
            kind, strength = "pointed to by", Strength.MEMBER if pointers else Strength.CACHE
            if all(slot.path.endswith("[]") and not slot.target for slot in pointers):
                strength = Strength.LINK  # an array that holds anything: xa_node.slots[]
            shown = [slot for slot in pointers if not slot.target] or pointers or slots
        rest = _distinct(targets)
        rest = rest[~np.isin(rest, named)]
        where = label(shown) if shown else f"{self._structs.name(struct)}+{offset}"
        self.evidence.add(Label(f"{kind} {where}", strength), rest)

    def _type_linked(self, struct: int, slot: Slot, targets: I64, into: I64) -> I64:
        """Give objects that are linked at the same offset the same struct: a head of the list would
        have to lie there by chance, in an object of the same size."""
        objects = _distinct(targets[into == slot.link])
        objects = objects[self.fits(struct, objects)]
        text = f"struct {self._structs.name(struct)}, linked to {label([slot])}"
        return self.set_type(objects, struct, text)

    def _type_pointed(self, pointers: Sequence[Slot], objects: I64) -> I64:
        """Give objects the struct that a pointer to their start is declared to point to, if exactly
        one is of their size; return those that got it."""
        fitting = {
            slot: self.fits(slot.target, objects)
            for slot in pointers
            if slot.target and slot.link == NO_LINK and not self._structs.is_link(slot.target)
        }
        count = sum(
            (mask.astype(np.int64) for mask in fitting.values()), np.zeros(len(objects), int)
        )
        named = [np.zeros(0, np.int64)]
        for slot, mask in fitting.items():
            text = f"struct {self._structs.name(slot.target)}, pointed to by {label([slot])}"
            named.append(self.set_type(objects[mask & (count == 1)], slot.target, text))
        return np.concatenate(named)

    def follow_variables(self, symbols: Symbols, places: U64, targets: I64) -> None:
        """Name objects by the variables that point to them, which lie at `places`."""
        objects: dict[Symbol, list[int]] = {}
        for place, target in zip(places.tolist(), targets.tolist(), strict=True):
            symbol = symbols.variable(place)
            if symbol is not None:
                objects.setdefault(symbol, []).append(target)
        for symbol, numbers in objects.items():
            text = f"pointed to by variable {symbol.label}"
            pointed = Label(text, Strength.MEMBER, module=symbol.module)
            self.evidence.add(pointed, np.unique(np.array(numbers, np.int64)))

    def read_words(self, memory: Memory, symbols: Symbols) -> None:
        """Name objects by the functions, and tables of functions, whose addresses they hold."""
        owner, offset, words = self._image_words(symbols)
        values, number = np.unique(words, return_inverse=True)
        known = symbols.look_up(memory, values)
        named = np.array([value in known for value in values.tolist()], bool)[number]
        owner, offset, number = owner[named], offset[named], number[named].astype(np.int64)
        sizes = _distinct(number << 32 | self._sizes[owner]) >> 32
        spread = np.bincount(sizes, minlength=len(values))  # sizes of objects that hold the word
        for key, rows in _groups(number << _OFFSET_BITS | offset):
            value, place = key >> _OFFSET_BITS, key & _OFFSETS
            symbol = known[int(values[value])]
            strength = Strength.SYMBOL if spread[value] < _MANY_SIZES else Strength.COMMON
            text = f"{'holds' if symbol.function else 'has ops'} {symbol.label} at +{place}"
            self.evidence.add(Label(text, strength, module=symbol.module), owner[rows])

    def _image_words(self, symbols: Symbols) -> tuple[I64, I64, U64]:
        """Return the words of subjects that are an address in the kernel's image or near modules:
        the subject, the offset in it, and the word."""
        words = self._subjects.words
        parts = [
            start + np.flatnonzero(symbols.in_image(words[start : start + _PIECE]))
            for start in range(0, len(words), _PIECE)
        ]
        where = np.concatenate([np.zeros(0, np.int64), *parts])
        order = np.argsort(self._subjects.start, kind="stable")
        starts = self._subjects.start[order]
        owner = order[np.maximum(np.searchsorted(starts, where, side="right") - 1, 0)]
        offset = (where - self._subjects.start[owner]) * 8
        inside = (offset >= 0) & (offset < self._sizes[owner])
        return owner[inside], offset[inside], words[where[inside]]

    def choose(self) -> I64:
        """Return the label of each object, NONE where nothing is known of it.

        A few words left behind by what had the memory before do not outweigh the member that points
        to thousands alike.
        """
        chosen = np.full(len(self._subjects), NONE)
        best = np.full(len(self._subjects), -1.0)
        for number, known in enumerate(self.evidence.labels):
            objects = self.evidence.objects(number)
            caches = self._subjects.cache[objects]
            weights = known.strength + np.log10(np.maximum(np.bincount(caches), 1))[caches]
            better = weights > best[objects]
            chosen[objects[better]] = number
            best[objects[better]] = weights[better]
        return self._joined(chosen)

    def _joined(self, chosen: I64) -> I64:
        """Give objects of one struct one label, the most frequent, whatever points to them."""
        counts = np.bincount(chosen[chosen != NONE], minlength=len(self.evidence.labels))
        best: dict[int, int] = {}
        for number in np.argsort(-counts, kind="stable").tolist():
            best.setdefault(self.evidence.labels[number].struct, number)
        same = np.array(
            [
                best[known.struct] if known.struct else number
                for number, known in enumerate(self.evidence.labels)
            ],
            np.int64,
        )
        return np.append(same, NONE)[chosen]

    def follow_groups(self, between: Pointers, labels: I64) -> None:
        """Name objects of which nothing else is known by the group that points to them."""
        known = (labels[between.source] != NONE) & (labels[between.target] == NONE)
        rows = between.rows(np.flatnonzero(known))
        for key, alike in _groups(labels[rows.source] << _OFFSET_BITS | rows.offset):
            group = self.evidence.labels[key >> _OFFSET_BITS]
            text = f"pointed to by +{key & _OFFSETS} of what {_as_clause(group.text)}"
            label_ = Label(text, Strength.OWNER, module=group.module)
            self.evidence.add(label_, _distinct(rows.target[alike]))

    def read_tables(self, slabs: Slabs, labels: I64) -> None:
        """Name objects of which nothing else is known by what they point to, where at least half of
        their words that are not 0, and not fewer than _TABLE, point into one cache."""
        rest = np.flatnonzero((labels == NONE) & (self._subjects.length >= _TABLE))
        for part in np.split(rest, range(_TABLES_AT_ONCE, len(rest), _TABLES_AT_ONCE)):
            lengths = np.minimum(self._subjects.length[part], _TABLE_WORDS)
            ends = np.cumsum(lengths)
            place = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
            words = self._subjects.words[np.repeat(self._subjects.start[part], lengths) + place]
            owner = np.repeat(part, lengths)[words != 0]
            words = words[words != 0]
            number = slabs.find(words)
            cache = slabs.cache[slabs.rows_of(number[number != NONE])]
            pairs, counts = np.unique(
                owner[number != NONE] << _OFFSET_BITS | cache, return_counts=True
            )
            objects = pairs >> _OFFSET_BITS
            used = np.bincount(owner, minlength=len(labels))[objects]
            for pair in pairs[(counts >= _TABLE) & (2 * counts >= used)].tolist():
                name = self._names[pair & _OFFSETS]
                table = Label(f"table of pointers to objects of {name}", Strength.OWNER)
                self.evidence.add(table, np.array([pair >> _OFFSET_BITS]))


def _as_clause(text: str) -> str:
    if text.startswith("struct "):
        return f"is a {text.partition(',')[0]}"
    return f"is {text}" if text.startswith(("pointed", "linked")) else text


def _pieces(rows: I64) -> list[I64]:
    """Cut rows into pieces, so that what is computed of them takes little memory."""
    return np.split(rows, range(_PIECE, len(rows), _PIECE))


def _groups(keys: I64) -> list[tuple[int, I64]]:
    """Return each distinct key, and the rows that have it."""
    rows = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[rows])) + 1
    return [(int(keys[part[0]]), part) for part in np.split(rows, edges) if len(part)]


def _distinct(values: I64) -> I64:
    """Return the distinct values, in order: np.unique() hashes, which takes several times as
    long."""
    values = np.sort(values)
    first = np.concatenate([np.ones(min(len(values), 1), bool), np.diff(values) != 0])
    distinct: I64 = values[first]
    return distinct
