# SPDX-License-Identifier: Apache-2.0
"""Structs in the kernel's image and in modules, such as init_net, a bus, or a filesystem's type:
members of known structs point to them, and they lead to objects in turn. Symbols of variables are
not needed."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from slabmon.base.arrays import I64, U64, Values, distinct
from slabmon.kernel.census.cache_types import CacheTypes
from slabmon.kernel.census.claims import Weight
from slabmon.kernel.census.contents import NONE, Subjects
from slabmon.kernel.census.evidence import groups
from slabmon.kernel.census.members import NO_LINK, Structs
from slabmon.kernel.census.memory import GATHER_BYTES, Memory
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.referrers import Pointers
from slabmon.kernel.census.signatures import Namer
from slabmon.kernel.census.symbols import Symbols

_SAMPLE = 64  # objects of one struct, at random, whose pointers into the image are followed
_SUBJECT_BYTES = 1 << 20  # the same of objects whose words are here
_MOST_BYTES = 4 * GATHER_BYTES  # of one struct that are read
_MOST = 1 << 14  # structs of one kind
_ROUNDS = 6
_FUNCTIONS_ONLY = ("_operations", "_ops")
_ALIGNED = np.uint64(-8 % (1 << 64))

Found = dict[int, list[U64]]  # addresses of structs


class Statics:
    """Follows structs outside slabs; each once."""

    def __init__(
        self,
        memory: Memory,
        read: Reading,
        subjects: Subjects,
        caches: CacheTypes,
        structs: Structs,
        symbols: Symbols,
    ) -> None:
        self._memory = memory
        self._read = read
        self._subjects = subjects
        self._caches = caches
        self._structs = structs
        self._symbols = symbols
        self._known: dict[int, U64] = {}
        self._members: dict[int, list[tuple[int, int]]] = {}
        self._looked: dict[int, int] = {}  # how many subjects of a struct there were

    def follow(self, namer: Namer) -> None:
        """Name what structs in the image point to that named caches and subjects point to, and what
        is found through these."""
        found: Found = defaultdict(list)
        if not self._looked:
            for cache, struct in self._caches.types.items():
                if self._pointers(struct):
                    addresses = _some(self._read.objects_in_use(cache, _SAMPLE))
                    self._look(struct, self._read_words(struct, addresses), found)
        known = np.flatnonzero(namer.types)
        for struct, rows in groups(namer.types[known]):
            if len(rows) != self._looked.get(struct) and self._pointers(struct):
                some = known[
                    _some(rows, max(_SAMPLE, _SUBJECT_BYTES // self._structs.size(struct)))
                ]
                self._look(struct, self._words_of(struct, some), found)
            self._looked[struct] = len(rows)
        for _ in range(_ROUNDS):
            if not found:
                return
            found = self._follow(found, namer)

    def _follow(self, found: Found, namer: Namer) -> Found:
        """Name what these structs point to; return those that they point to."""
        more: Found = defaultdict(list)
        for struct, parts in found.items():
            addresses = np.setdiff1d(
                np.concatenate(parts), self._known.get(struct, np.zeros(0, np.uint64))
            )[:_MOST]
            before = self._known.get(struct, np.zeros(0, np.uint64))
            self._known[struct] = np.concatenate([before, addresses])
            words = self._read_words(struct, addresses)
            self._look(struct, words, more)
            target, into = self._subjects.find(words.reshape(-1) & _ALIGNED)
            at = np.flatnonzero(target != NONE)
            if not len(at):
                continue
            row, column = np.divmod(at, words.shape[1])
            pointers = Pointers(row, column * 8, target[at], into[at])
            namer.follow_members(np.full(len(at), struct), pointers, Weight.CACHE)
        return more

    def _look(self, struct: int, words: U64, found: Found) -> None:
        """Add the structs in the image that structs with these words point to, one row each."""
        members = [each for each in self._pointers(struct) if each[0] < 8 * words.shape[1]]
        if not members or not len(words):
            return
        columns = words[:, [offset // 8 for offset, _ in members]]
        inside = self._symbols.in_image(columns.reshape(-1)).reshape(columns.shape)
        for number in np.flatnonzero(inside.any(axis=0)).tolist():
            target = members[number][1]
            starts = distinct(columns[inside[:, number], number])
            ends = starts + np.uint64(max(self._structs.size(target), 8) - 8)
            whole = self._symbols.in_image(ends) & (starts % np.uint64(8) == 0)
            if whole.any():
                found[target].append(starts[whole])

    def _words_of(self, struct: int, numbers: I64) -> U64:
        """Return the words of subjects of one struct."""
        length = min(self._structs.size(struct) // 8, int(self._subjects.length[numbers].min()))
        words: U64 = self._subjects.words[
            self._subjects.start[numbers][:, None] + np.arange(length)
        ]
        return words

    def _read_words(self, struct: int, addresses: U64) -> U64:
        """Return the words of structs at these addresses."""
        size = min(self._structs.size(struct), _MOST_BYTES) & -8
        parts = [
            self._memory.gather(addresses + np.uint64(start), min(GATHER_BYTES, size - start))
            for start in range(0, size, GATHER_BYTES)
        ]
        if not parts:
            return np.zeros((len(addresses), 0), np.uint64)
        words: U64 = np.ascontiguousarray(np.concatenate(parts, axis=1)).view(np.uint64)
        return words

    def _pointers(self, struct: int) -> list[tuple[int, int]]:
        """Return the offsets of pointers to structs that can lead on, and the structs."""
        if struct not in self._members:
            self._members[struct] = [
                (offset, slots[0].target)
                for offset, slots in self._structs.slots(struct).items()
                if len(slots) == 1
                and slots[0].target
                and slots[0].link == NO_LINK
                and not self._structs.is_link(slots[0].target)
                and not self._structs.name(slots[0].target).endswith(_FUNCTIONS_ONLY)
            ]
        return self._members[struct]


def _some(values: Values, most: int = _SAMPLE) -> Values:
    if len(values) <= most:
        return values
    chosen: Values = values[np.random.default_rng(0).permutation(len(values))[:most]]
    return chosen
