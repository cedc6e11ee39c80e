# SPDX-License-Identifier: Apache-2.0
"""Groups of objects by what is known of whose they are.

Evidence of one object: a pointer to its start from a member of a known struct that points to a
struct of its size (its type), functions and tables of functions whose addresses it holds, and the
member or cache that points to it. The most specific evidence names an object, of equally specific
the most frequent: so that objects alike come into one group.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from slabmon.base.arrays import I64, U64, Bool, Values, distinct
from slabmon.base.names import is_kmalloc
from slabmon.kernel.census.claims import Claims, Weight
from slabmon.kernel.census.contents import NONE, Subjects
from slabmon.kernel.census.evidence import (
    Evidence,
    Label,
    Strength,
    groups,
    in_order,
    numbered,
)
from slabmon.kernel.census.leads import Leads
from slabmon.kernel.census.members import NO_LINK, TABLE, Slot, Structs, label
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.merged import PROOF, Judge
from slabmon.kernel.census.only_members import ONLY_MEMBERS
from slabmon.kernel.census.parts import PartRows, Parts
from slabmon.kernel.census.referrers import Pointers
from slabmon.kernel.census.slabs import Slabs
from slabmon.kernel.census.symbols import Symbols

_ROUNDS = 12
# mm/slab_common.c: kmalloc_info[]. The smallest are missing where caches are lines of that size.
_KMALLOC_SIZES = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
_TABLE, _TABLE_WORDS = 8, 4096  # least pointers of a table, and words of it that are read
_TABLES_AT_ONCE = 256
_PIECE = 1 << 17  # words, or pointers, looked at at once
_OFFSET_BITS = 24  # of an offset in bytes
_OFFSETS = (1 << _OFFSET_BITS) - 1
_LABEL_BITS = 32
_MOST_CONTAINERS = 8  # structs of one size and module, of which one is chosen
_LEAST_PART = 32  # bytes: smaller structs say nothing, and are everywhere
_MOST = 4  # a part names an object of less than so many times its size
_IN_CHAIN = "in a list or tree with what "
_MANY_SIZES = 4  # what objects of so many sizes hold says little of whose they are


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
        self._buckets = [size for size in _KMALLOC_SIZES if size >= least]
        self._of_kmalloc = np.append(kmalloc, True)[subjects.cache]
        self.claims = Claims(len(subjects), structs.begins_with)
        self._between = between
        self._parts = Parts(len(subjects), between.source)
        self._chosen = np.full(len(subjects), NONE)
        self._best = np.full(len(subjects), -1.0)
        self._changes = 0
        self._marked = np.zeros(len(subjects), bool)
        self._places: dict[tuple[int, int, str | None], list[I64]] = {}
        self._leads = Leads(structs)
        self._perhaps: dict[tuple[int, str], list[I64]] = {}
        self.evidence = Evidence()

    @property
    def types(self) -> I64:
        """The struct of each subject, 0 where it is not known."""
        return self.claims.types

    def fits(self, struct: int, objects: I64) -> Bool:
        """Return which objects have the size in which a struct would be allocated."""
        size, sizes = self._structs.size(struct), self._sizes[objects]
        if not size:
            return np.zeros(len(objects), bool)
        place = bisect.bisect_left(self._buckets, size)
        bucket = self._buckets[place] if place < len(self._buckets) else -(-size // 4096) * 4096
        exact = np.where(
            self._of_kmalloc[objects], sizes == bucket, (size <= sizes) & (sizes < size + 64)
        )
        longer = self._structs.flexible(struct)
        fitting: Bool = np.logical_or(exact, longer & (size <= sizes))
        return fitting

    def set_type(self, objects: I64, struct: int, text: str, weight: Weight) -> I64:
        """Say that distinct objects are of a struct; return those that now are, unless more speaks
        for another."""
        agreed = self.claims.add(objects, struct, weight)
        self._parts.add(agreed, np.zeros(len(agreed), np.int64), struct)
        label_ = Label(text, Strength.TYPE, struct, self._structs.module(struct))
        self.evidence.add(label_, objects)
        return agreed

    def set_part(self, objects: I64, offset: I64, struct: int) -> None:
        """Say that objects contain a struct, which the offset in each begins. It names those of
        which it makes up most."""
        size, sizes = self._structs.size(struct), self._sizes[objects]
        fitting = (size > 0) & (offset >= 0) & (offset + size <= sizes)
        objects, offset, sizes = objects[fitting], offset[fitting], sizes[fitting]
        self._parts.add(objects, offset, struct)
        unknown = np.flatnonzero(self.types[objects] == 0)
        for place, rows in groups(offset[unknown]) if len(unknown) else ():
            self._add_place(objects[unknown[rows]], struct, place, self._structs.module(struct))
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
                self.follow_members(
                    fresh.struct[part][inside],
                    dataclasses.replace(rows, offset=within).rows(inside),
                    Weight.POINTER,
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
            self.follow_members(structs[rows.source], rows, Weight.CACHE)
        for part in _pieces(np.flatnonzero(structs[named.source] == 0)):
            rows = named.rows(part)
            for key, alike in groups(rows.source << _OFFSET_BITS | rows.offset):
                name, offset = self._names[key >> _OFFSET_BITS], key & _OFFSETS
                pointed = Label(f"pointed to by {name}+{offset}", Strength.CACHE)
                self.evidence.add(pointed, distinct(rows.target[alike]))

    def follow_members(self, structs: I64, rows: Pointers, weight: Weight) -> None:
        """Name what these structs point to, from the offsets in `rows`."""
        offsets = self._in_tails(structs, rows.offset)
        for key, alike in groups(structs << _OFFSET_BITS | offsets):
            struct, offset = key >> _OFFSET_BITS, key & _OFFSETS
            self._follow_slot(struct, offset, rows.target[alike], rows.into[alike], weight)

    def _in_tails(self, structs: I64, offsets: Values) -> I64:
        """Return offsets, those in an array at a struct's end as if in its first element."""
        offsets = offsets.astype(np.int64)
        for struct in distinct(structs).tolist():
            tail = self._structs.tail(struct)
            if tail is not None and tail.bytes:
                within = np.flatnonzero((structs == struct) & (offsets >= tail.start))
                offsets[within] = tail.start + (offsets[within] - tail.start) % tail.bytes
        return offsets

    def _follow_slot(
        self, struct: int, offset: int, targets: I64, into: I64, weight: Weight
    ) -> None:
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
            pointed = distinct(targets[into == 0])
            named = self._type_pointed(pointers, pointed, weight)
            self._note_pointees(pointers, pointed)
            self._find_parts(pointers, targets, into, named)
            kind, strength = "pointed to by", Strength.MEMBER if pointers else Strength.CACHE
            if all(slot.path.endswith("[]") and not slot.target for slot in pointers):
                strength = Strength.LINK  # an array that holds anything: xa_node.slots[]
            shown = [slot for slot in pointers if not slot.target] or pointers or slots
        rest = distinct(targets[self._others(targets, named)])
        where = label(shown) if shown else f"{self._structs.name(struct)}+{offset}"
        self.evidence.add(Label(f"{kind} {where}", strength), rest)

    def _type_linked(self, struct: int, slot: Slot, targets: I64, into: I64) -> I64:
        """Give objects that are linked at the same offset the same struct: a head of the list would
        have to lie there by chance, in an object of the same size. If the link is in a struct that
        this one begins with, such as a kobject's, they are of the shortest of these that has their
        size. Where others are linked, note it."""
        rest = distinct(targets[into == slot.link])
        named = np.zeros(0, np.int64)
        for each in self._structs.beginnings(struct, slot.link):
            fitting = self.fits(each, rest)
            text = f"struct {self._structs.name(each)}, linked to {label([slot])}"
            agreed = self.set_type(rest[fitting], each, text, Weight.LINK)
            named, rest = np.concatenate([named, agreed]), rest[~fitting]
        named = np.concatenate([named, self._type_elements(slot, targets, into)])
        module = self._structs.module(struct)
        if module is not None:  # of the kernel too many structs have links at any place
            element = self._structs.find(slot.element)
            others = self._others(targets, named) & (self.types[targets] == 0)
            for place, rows in groups(into[others]):
                self._add_place(distinct(targets[others][rows]), element, place, module)
        return named

    def _type_elements(self, slot: Slot, targets: I64, into: I64) -> I64:
        """Give the objects in a list of one kind of objects, to which its head points, their
        struct; return those that got it."""
        where = label([slot])
        element = self._leads.elements.get(where)
        if element is None:
            return np.zeros(0, np.int64)
        objects = distinct(targets[into == element.link])
        objects = objects[self.fits(element.struct, objects)]
        text = f"struct {self._structs.name(element.struct)}, linked to {where}"
        return self.set_type(objects, element.struct, text, Weight.POINTER)

    def _note_pointees(self, pointers: Sequence[Slot], objects: I64) -> None:
        """Note what objects can be that a pointer to anything points to."""
        for slot in pointers:
            for struct in self._leads.pointees.get(slot.path, ()):
                text = f"struct {self._structs.name(struct)}, pointed to by {slot.path}"
                fitting = objects[self.fits(struct, objects)]
                self._perhaps.setdefault((struct, text), []).append(fitting)

    def find_pointees(self, judge: Judge) -> None:
        """Give objects that a pointer to anything points to the struct that they can be, if its
        members prove it."""
        for (struct, text), parts in self._perhaps.items():
            objects = distinct(np.concatenate(parts))
            objects = objects[self.types[objects] == 0]
            if len(objects):
                sure = judge.choose(objects, [struct]) == struct
                self.set_type(objects[sure], struct, text, Weight.JUDGED)
        self._perhaps.clear()

    def type_pointed_by(self, variable: str, objects: I64) -> None:
        """Give objects that a variable points to the struct that it points to."""
        struct = self._leads.variables.get(variable)
        if struct is not None:
            text = f"struct {self._structs.name(struct)}, pointed to by variable {variable}"
            self.set_type(objects[self.fits(struct, objects)], struct, text, Weight.CACHE)

    def _others(self, objects: I64, named: I64) -> Bool:
        """Return which of these objects are not among the named."""
        self._marked[named] = True
        others: Bool = ~self._marked[objects]
        self._marked[named] = False
        return others

    def _add_place(self, objects: I64, struct: int, offset: int, module: str | None) -> None:
        """Note that a struct lies in objects of structs not known, perhaps of a module."""
        self._places.setdefault((struct, offset, module), []).append(objects)

    def find_containers(self, judge: Judge) -> None:
        """Give objects of no known struct in which one lies the struct that has it there, and has
        the size of the objects: of the module whose struct leads there the one whose members fit
        best, of the kernel the only one, if its members prove it."""
        for (inner, offset, module), parts in self._places.items():
            objects = distinct(np.concatenate(parts))
            objects = objects[self.types[objects] == 0]
            if not len(objects):
                continue
            for size, rows in groups(self._sizes[objects]):
                alike = objects[rows]
                most = _MOST_CONTAINERS if module else 1
                fitting = (
                    each
                    for each in self._structs.containers(inner, offset, size)
                    if self._structs.module(each) == module and self.fits(each, alike[:1]).all()
                )
                containers = list(itertools.islice(fitting, most + 1))
                if 0 < len(containers) <= most:
                    verdicts = judge.choose(alike, containers, 0 if module else PROOF)
                    self._type_containers(alike, verdicts, containers, inner)
        self._places.clear()

    def _type_containers(
        self, objects: I64, verdicts: I64, containers: Sequence[int], inner: int
    ) -> None:
        for struct in containers:
            text = f"struct {self._structs.name(struct)}, by the {self._structs.name(inner)} in it"
            self.set_type(objects[verdicts == struct], struct, text, Weight.PLACE)

    def _type_pointed(self, pointers: Sequence[Slot], objects: I64, weight: Weight) -> I64:
        """Give objects the struct that a pointer to their start is declared to point to, if exactly
        one is of their size; return those that got it."""
        if len(pointers) == 1 and pointers[0].table and pointers[0].link == NO_LINK:
            starts = np.zeros(len(objects), np.int64)
            self._parts.add(objects, starts, TABLE | pointers[0].table)
        fitting = {
            slot: self.fits(slot.target, objects)
            for slot in pointers
            if slot.target and slot.link == NO_LINK and not self._structs.is_link(slot.target)
        }
        named = [np.zeros(0, np.int64)]
        for slot, mask in fitting.items():
            for other, others in fitting.items():
                mask = mask if other is slot else mask & ~others
            text = f"struct {self._structs.name(slot.target)}, pointed to by {label([slot])}"
            named.append(self.set_type(objects[mask], slot.target, text, weight))
        return np.concatenate(named)

    def _find_parts(self, pointers: Sequence[Slot], targets: I64, into: I64, named: I64) -> None:
        """Find structs inside of objects that a pointer is declared to point to."""
        [struct, *others] = {slot.target for slot in pointers if slot.target} or {0}
        if not struct or others or self._structs.is_link(struct):
            return
        if self._structs.size(struct) < _LEAST_PART:
            return
        inside = np.flatnonzero(self._others(targets, named) | (into != 0))
        if not len(inside):
            return
        pairs = distinct((targets << _OFFSET_BITS | into)[inside])
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
            for member in ONLY_MEMBERS.get(symbol.label, ()):
                self._type_holders(symbol.label, member, place, owner[rows])
            strength = Strength.SYMBOL if spread[value] < _MANY_SIZES else Strength.COMMON
            text = f"{'holds' if symbol.function else 'has ops'} {symbol.label} at +{place}"
            self.evidence.add(Label(text, strength, module=symbol.module), owner[rows])

    def _type_holders(self, function: str, member: str, place: int, objects: I64) -> None:
        """Find the struct in objects that hold a function which only one of its members can."""
        name, _, path = member.partition(".")
        struct = self._structs.find(name)
        offset = self._structs.offset(struct, path)
        if offset is None or place < offset:
            return
        if place == offset:
            text = f"struct {name}, holds {function} at +{place}"
            whole = objects[self.fits(struct, objects)]
            objects = np.setdiff1d(objects, self.set_type(whole, struct, text, Weight.FUNCTION))
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
        numbers: Iterable[int] = self.evidence.changed()
        if self._changes != self.claims.changes:
            self._changes = self.claims.changes
            self._chosen[:], self._best[:] = NONE, -1.0
            numbers = range(len(self.evidence.labels))
        for number in numbers:
            known = self.evidence.labels[number]
            objects = self.evidence.objects(number)
            if known.struct:
                objects = objects[self.types[objects] == known.struct]
            caches = self.subjects.cache[objects]
            weights = known.strength + np.log10(np.maximum(np.bincount(caches), 1))[caches]
            better = weights > self._best[objects]
            self._chosen[objects[better]] = number
            self._best[objects[better]] = weights[better]
        return self._joined(self._chosen)

    def _joined(self, chosen: I64) -> I64:
        """Give objects of one struct one label, the most frequent, whatever points to them."""
        labels = self.evidence.labels
        structs = np.array([known.struct for known in labels], np.int64)
        counts = np.bincount(chosen + 1, minlength=len(labels) + 1)[1:]
        order = np.argsort(-counts, kind="stable")
        _, first, number = np.unique(structs[order], return_index=True, return_inverse=True)
        same = np.arange(len(labels))
        same[order] = np.where(structs[order] != 0, order[first[number]], order)
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
        unknown = labels == NONE
        to_unknown = np.flatnonzero(unknown[between.target])
        rows = between.rows(to_unknown[~unknown[between.source[to_unknown]]])
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
