# SPDX-License-Identifier: Apache-2.0
"""Structs that begin with others: a pnp_dev, a pci_bus and many more begin with a device, and what
shows that a device lies there, a pointer or a function, is as true of them."""

from __future__ import annotations

import itertools

import numpy as np

from slabmon.base.arrays import I64
from slabmon.kernel.census.claims import Weight
from slabmon.kernel.census.evidence import groups
from slabmon.kernel.census.members import Structs
from slabmon.kernel.census.merged import Judge
from slabmon.kernel.census.signatures import Namer

_MOST = 64  # structs of one size that begin with one


class Derived:
    """Judges objects of structs that others begin with; each once of each struct."""

    def __init__(self, namer: Namer, structs: Structs, judge: Judge) -> None:
        self._namer = namer
        self._structs = structs
        self._judge = judge
        self._sizes = namer.subjects.length * 8
        self._judged = np.zeros(len(namer.subjects), np.int64)  # the struct of each

    def find(self) -> None:
        """Give objects the struct that begins with theirs whose further members fit best, if at
        least one proves it."""
        types = self._namer.types
        fresh = np.flatnonzero(types != self._judged)
        self._judged[fresh] = types[fresh]
        for struct, rows in groups(types[fresh]):
            for size, alike in groups(self._sizes[fresh[rows]]):
                self._judge_alike(struct, size, fresh[rows[alike]])

    def _judge_alike(self, struct: int, size: int, objects: I64) -> None:
        """Judge objects of one struct and of one size."""
        longer = (
            each
            for each in self._structs.containers(struct, 0, size)
            if self._namer.fits(each, objects[:1]).all()
        )
        candidates = list(itertools.islice(longer, _MOST + 1))
        if not 0 < len(candidates) <= _MOST:
            return
        verdicts = self._judge.choose(objects, candidates, start=self._structs.size(struct))
        own = self._structs.name(struct)
        for each in candidates:
            text = f"struct {self._structs.name(each)}, which begins with struct {own}"
            self._namer.set_type(objects[verdicts == each], each, text, Weight.JUDGED)
