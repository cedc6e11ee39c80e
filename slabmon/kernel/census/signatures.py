# SPDX-License-Identifier: Apache-2.0
"""Groups of objects by what is known of whose they are.

Evidence of one object: a pointer to its start from a member of a known struct that points to a
struct of its size (its type), functions and tables of functions whose addresses it holds, and the
member or cache that points to it. The most specific evidence names an object, of equally specific
the most frequent: so that objects alike come into one group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import I64, U64, Bool, Values, distinct
from slabmon.kernel.census.caches import is_kmalloc
from slabmon.kernel.census.contents import NONE, Subjects
from slabmon.kernel.census.evidence import (
    Evidence,
    Label,
    Strength,
    groups,
    in_order,
    numbered,
)
from slabmon.kernel.census.members import NO_LINK, Slot, Structs, label
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.referrers import Pointers
from slabmon.kernel.census.slabs import Slabs
from slabmon.kernel.census.symbols import Symbols

_ROUNDS = 12
# Functions, and the only member that can hold each.
_ONLY_MEMBER: Mapping[str, str] = {
    "delayed_work_timer_fn": "delayed_work.timer.function",
    "flush_to_ldisc": "tty_port.buf.work.func",
    "it_real_fn": "signal_struct.real_timer.function",
    "klist_children_get": "device_private.klist_children.get",
    "klist_class_dev_get": "subsys_private.klist_devices.get",
    "klist_devices_get": "subsys_private.klist_devices.get",
    "pm_suspend_timer_fn": "device.power.suspend_timer.function",
    "sock_def_wakeup": "sock.sk_state_change",
}
# mm/slab_common.c: kmalloc_info[]. The smallest are missing where caches are lines of that size.
_KMALLOC_SIZES = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
_TABLE, _TABLE_WORDS = 8, 4096  # least pointers of a table, and words of it that are read
_TABLES_AT_ONCE = 256
_PIECE = 1 << 17  # words, or pointers, looked at at once
_OFFSET_BITS = 24  # of an offset in bytes
_OFFSETS = (1 << _OFFSET_BITS) - 1
_LABEL_BITS = 32
_STRUCT_BITS, _PLACE_BITS = 26, 12  # of a part; offsets count words, and end at 32 KiB
_PLACES = (1 << _PLACE_BITS) - 1
_LEAST_PART = 32  # bytes: smaller structs say nothing, and are everywhere
_MOST = 4  # a part names an object of less than so many times its size
_IN_CHAIN = "in a list or tree with what "
_MANY_SIZES = 4  # what objects of so many sizes hold says little of whose they are


class PartRows(NamedTuple):
    """Structs in subjects: the subject, the offset of the struct in it, the struct."""

    owner: I64
    offset: I64
    struct: I64


class Parts:
    """Known structs in those of `count` subjects that point to others, whole ones and parts, each
    once."""

    def __init__(self, count: int, sources: Values) -> None:
        self._points = np.zeros(count, bool)
        self._points[sources] = True
        self._known = np.zeros(0, np.uint64)
        self._fresh: list[U64] = []

    def add(self, owners: I64, offsets: I64, struct: int) -> None:
        """Add a struct in these subjects, at these offsets."""
        chosen = self._points[owners]
        owners, offsets = owners[chosen], offsets[chosen]
        if len(owners):
            packed = (owners << _PLACE_BITS | np.minimum(offsets // 8, _PLACES)) << _STRUCT_BITS
            self._fresh.append(packed.astype(np.uint64) | np.uint64(struct))

    def take(self) -> PartRows:
        """Return those that were added since the last call, and not before."""
        fresh = distinct(np.concatenate([np.zeros(0, np.uint64), *self._fresh]))
        self._fresh.clear()
        place = np.minimum(np.searchsorted(self._known, fresh), max(len(self._known) - 1, 0))
        if len(self._known):
            fresh = fresh[self._known[place] != fresh]
        self._known = np.sort(np.concatenate([self._known, fresh]))
        place = fresh >> np.uint64(_STRUCT_BITS)
        return PartRows(
            owner=(place >> np.uint64(_PLACE_BITS)).astype(np.int64),
            offset=(place & np.uint64(_PLACES)).astype(np.int64) * 8,
            struct=(fresh & np.uint64((1 << _STRUCT_BITS) - 1)).astype(np.int64),
        )


class Namer:
    """Names subjects. `object_sizes` are of caches, and `kmalloc` says which of them are
    kmalloc's, whose sizes are those to which kmalloc() rounds. `between` are the pointers from one
    to another, in order of `source`."""

    def __init__(
        self,
        subjects: Subjects,
        structs: Structs,
        object_sizes: I64,
        names: Sequence[str],
        between: Pointers,
    ) -> None:
        self.subjects = subjects
        self._structs = structs
        self._names = names
        self._sizes = subjects.length * 8
        kmalloc = np.array([is_kmalloc(name) for name in names], bool)
        least = int(object_sizes[kmalloc].min(initial=_KMALLOC_SIZES[-1]))
        self._buckets = np.array([size for size in _KMALLOC_SIZES if size >= least])
        self._of_kmalloc = np.append(kmalloc, True)[subjects.cache]
        self.types = np.zeros(len(subjects), np.int64)  # struct of each subject; 0: not known
        self._between = between
        self._parts = Parts(len(subjects), between.source)
        self._chosen = np.full(len(subjects), NONE)
        self._best = np.full(len(subjects), -1.0)
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
        self._parts.add(agreed, np.zeros(len(agreed), np.int64), struct)
        label_ = Label(text, Strength.TYPE, struct, self._structs.module(struct))
        self.evidence.add(label_, agreed)
        return agreed

    def set_part(self, objects: I64, offset: I64, struct: int) -> None:
        """Say that objects contain a struct, which the offset in each begins. It names those of
        which it makes up most."""
        size, sizes = self._structs.size(struct), self._sizes[objects]
        fitting = (size > 0) & (offset >= 0) & (offset + size <= sizes)
        objects, offset, sizes = objects[fitting], offset[fitting], sizes[fitting]
        self._parts.add(objects, offset, struct)
        main = np.flatnonzero(_MOST * size > sizes)
        for place, rows in groups(offset[main]):
            text = f"contains struct {self._structs.name(struct)} at +{place}"
            label_ = Label(text, Strength.PART, module=self._structs.module(struct))
            self.evidence.add(label_, objects[main[rows]])

    def follow(self) -> None:
        """Name what members of known structs in subjects point to, then of what these point to,
        until nothing is new."""
        between = self._between
        for _ in range(_ROUNDS):
            fresh = self._parts.take()
            if not len(fresh.owner):
                return
            first = np.searchsorted(between.source, fresh.owner.astype(np.int32), side="left")
            last = np.searchsorted(between.source, fresh.owner.astype(np.int32), side="right")
            for some in _pieces_of(last - first):
                counts = (last - first)[some]
                part = np.repeat(some, counts)
                ends = np.cumsum(counts)
                number = np.arange(len(part)) - np.repeat(ends - counts, counts)
                rows = between.rows(first[part] + number)
                within = rows.offset - fresh.offset[part]
                inside = np.flatnonzero((within >= 0) & (within < self._extent(fresh, part)))
                self._follow_members(
                    fresh.struct[part][inside],
                    dataclasses.replace(rows, offset=within).rows(inside),
                )

    def _extent(self, parts: PartRows, rows: I64) -> I64:
        """Return how far each struct reaches, which may end with an array."""
        structs, number = np.unique(parts.struct, return_inverse=True)
        sizes = np.array(
            [
                1 << _OFFSET_BITS if self._structs.flexible(struct) else self._structs.size(struct)
                for struct in structs.tolist()
            ]
        )
        extent: I64 = sizes[number[rows]]
        return extent

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
            for key, alike in groups(rows.source << _OFFSET_BITS | rows.offset):
                name, offset = self._names[key >> _OFFSET_BITS], key & _OFFSETS
                pointed = Label(f"pointed to by {name}+{offset}", Strength.CACHE)
                self.evidence.add(pointed, distinct(rows.target[alike]))

    def _follow_members(self, structs: I64, rows: Pointers) -> None:
        for key, alike in groups(structs << _OFFSET_BITS | rows.offset):
            struct, offset = key >> _OFFSET_BITS, key & _OFFSETS
            self._follow_slot(struct, offset, rows.target[alike], rows.into[alike])

    def _follow_slot(self, struct: int, offset: int, targets: I64, into: I64) -> None:
        """Name what one word of one struct points to."""
        slots = self._structs.slots(struct).get(offset, ())
        if slots and not any(slot.can_point for slot in slots):
            return
        links = [slot for slot in slots if slot.link != NO_LINK]
        pointers = [slot for slot in slots if slot.pointer]
        if links and len(links) == len(slots):
            named = self._type_linked(struct, links[0], targets, into)
            kind, strength, shown = "linked to", Strength.LINK, slots
        else:
            named = self._type_pointed(pointers, distinct(targets[into == 0]))
            self._find_parts(pointers, targets, into, named)
            kind, strength = "pointed to by", Strength.MEMBER if pointers else Strength.CACHE
            if all(slot.path.endswith("[]") and not slot.target for slot in pointers):
                strength = Strength.LINK  # an array that holds anything: xa_node.slots[]
            shown = [slot for slot in pointers if not slot.target] or pointers or slots
        rest = distinct(targets)
        rest = rest[~np.isin(rest, named)] if len(named) else rest
        where = label(shown) if shown else f"{self._structs.name(struct)}+{offset}"
        self.evidence.add(Label(f"{kind} {where}", strength), rest)

    def _type_linked(self, struct: int, slot: Slot, targets: I64, into: I64) -> I64:
        """Give objects that are linked at the same offset the same struct: a head of the list would
        have to lie there by chance, in an object of the same size."""
        objects = distinct(targets[into == slot.link])
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

    def _find_parts(self, pointers: Sequence[Slot], targets: I64, into: I64, named: I64) -> None:
        """Find structs inside of objects that a pointer is declared to point to."""
        [struct, *others] = {slot.target for slot in pointers if slot.target} or {0}
        if not struct or others or self._structs.is_link(struct):
            return
        if self._structs.size(struct) < _LEAST_PART:
            return
        pairs = distinct((targets << _OFFSET_BITS | into)[~np.isin(targets, named) | (into != 0)])
        self.set_part(pairs >> _OFFSET_BITS, pairs & _OFFSETS, struct)

    def read_words(self, memory: Memory, symbols: Symbols) -> None:
        """Name objects by the functions, and tables of functions, whose addresses they hold."""
        owner, offset, words = self._image_words(symbols)
        values, number, _ = numbered(words)
        known = symbols.look_up(memory, values)
        named = np.array([value in known for value in values.tolist()], bool)[number]
        owner, offset, number = owner[named], offset[named], number[named]
        sizes = distinct(number << 32 | self._sizes[owner]) >> 32
        spread = np.bincount(sizes, minlength=len(values))  # sizes of objects that hold the word
        for key, rows in groups(number << _OFFSET_BITS | offset):
            value, place = key >> _OFFSET_BITS, key & _OFFSETS
            symbol = known[int(values[value])]
            if symbol.label in _ONLY_MEMBER:
                self._type_holders(symbol.label, place, owner[rows])
            strength = Strength.SYMBOL if spread[value] < _MANY_SIZES else Strength.COMMON
            text = f"{'holds' if symbol.function else 'has ops'} {symbol.label} at +{place}"
            self.evidence.add(Label(text, strength, module=symbol.module), owner[rows])

    def _type_holders(self, function: str, place: int, objects: I64) -> None:
        """Find the struct in objects that hold a function which only one of its members can."""
        name, _, path = _ONLY_MEMBER[function].partition(".")
        struct = self._structs.find(name)
        offset = self._structs.offset(struct, path)
        if offset is None or place < offset:
            return
        if place == offset:
            text = f"struct {name}, holds {function} at +{place}"
            objects = np.setdiff1d(
                objects, self.set_type(objects[self.fits(struct, objects)], struct, text)
            )
        self.set_part(objects, np.full(len(objects), place - offset), struct)

    def _image_words(self, symbols: Symbols) -> tuple[I64, I64, U64]:
        """Return the words of subjects that are an address in the kernel's image or near modules:
        the subject, the offset in it, and the word."""
        words = self.subjects.words
        parts = [
            start + np.flatnonzero(symbols.in_image(words[start : start + _PIECE]))
            for start in range(0, len(words), _PIECE)
        ]
        where = np.concatenate([np.zeros(0, np.int64), *parts])
        order = in_order(self.subjects.start)
        starts = self.subjects.start[order]
        owner = order[np.maximum(np.searchsorted(starts, where, side="right") - 1, 0)]
        offset = (where - self.subjects.start[owner]) * 8
        inside = (offset >= 0) & (offset < self._sizes[owner])
        return owner[inside], offset[inside], words[where[inside]]

    def choose(self) -> I64:
        """Return the label of each object, NONE where nothing is known of it.

        A few words left behind by what had the memory before do not outweigh the member that points
        to thousands alike.
        """
        for number in self.evidence.changed():
            known = self.evidence.labels[number]
            objects = self.evidence.objects(number)
            caches = self.subjects.cache[objects]
            weights = known.strength + np.log10(np.maximum(np.bincount(caches), 1))[caches]
            better = weights > self._best[objects]
            self._chosen[objects[better]] = number
            self._best[objects[better]] = weights[better]
        return self._joined(self._chosen)

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

    def follow_chains(self, chain: I64, labels: I64) -> None:
        """Name objects of which nothing else is known as most of their chain is named."""
        known = np.flatnonzero((chain != NONE) & (labels != NONE))
        pairs, counts = np.unique(chain[known] << _LABEL_BITS | labels[known], return_counts=True)
        order = np.argsort(counts, kind="stable")
        most = np.full(len(chain), NONE)
        most[pairs[order] >> _LABEL_BITS] = pairs[order] & (1 << _LABEL_BITS) - 1
        rest = np.flatnonzero((chain != NONE) & (labels == NONE))
        rest = rest[most[chain[rest]] != NONE]
        for number, rows in groups(most[chain[rest]]):
            group = self.evidence.labels[number]
            text = _IN_CHAIN + _as_clause(group.text).removeprefix("is " + _IN_CHAIN)
            label_ = Label(text, Strength.LINK, module=group.module)
            self.evidence.add(label_, rest[rows])

    def follow_groups(self, labels: I64) -> None:
        """Name objects of which nothing else is known by the group that points to them."""
        between = self._between
        known = (labels[between.source] != NONE) & (labels[between.target] == NONE)
        rows = between.rows(np.flatnonzero(known))
        for key, alike in groups(labels[rows.source] << _OFFSET_BITS | rows.offset):
            group = self.evidence.labels[key >> _OFFSET_BITS]
            text = f"pointed to by +{key & _OFFSETS} of what {_as_clause(group.text)}"
            label_ = Label(text, Strength.OWNER, module=group.module)
            self.evidence.add(label_, distinct(rows.target[alike]))

    def read_tables(self, slabs: Slabs, labels: I64) -> None:
        """Name objects of which nothing else is known by what they point to, where at least half of
        their words that are not 0, and not fewer than _TABLE, point into one cache."""
        rest = np.flatnonzero((labels == NONE) & (self.subjects.length >= _TABLE))
        for part in np.split(rest, range(_TABLES_AT_ONCE, len(rest), _TABLES_AT_ONCE)):
            lengths = np.minimum(self.subjects.length[part], _TABLE_WORDS)
            ends = np.cumsum(lengths)
            place = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
            words = self.subjects.words[np.repeat(self.subjects.start[part], lengths) + place]
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
    return f"is {text}" if text.startswith(("pointed", "linked", "in a")) else text


def _pieces_of(counts: I64) -> list[I64]:
    """Cut rows into pieces that have _PIECE each, or one row."""
    rows = np.flatnonzero(counts)
    total = np.cumsum(counts[rows]) // _PIECE
    return np.split(rows, np.flatnonzero(np.diff(total)) + 1) if len(rows) else []


def _pieces(rows: I64) -> list[I64]:
    """Cut rows into pieces, so that what is computed of them takes little memory."""
    return np.split(rows, range(_PIECE, len(rows), _PIECE))
