# SPDX-License-Identifier: Apache-2.0
"""Types of the kernel and of those modules that have some which are asked for, with one numbering:
all modules' types go on from the kernel's, each from the same number."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from slabmon.base.arrays import I64, distinct
from slabmon.kernel.probe.btf import Btf, BtfError, Shape

MODULES = Path("/sys/kernel/btf")
_MODULE = 1 << 20  # above the number of any type of the kernel or one module
_MOST_MODULES = 30  # so that numbers have 25 bits
_MOST_DEPTH = 6  # of a struct in a struct


class Types:
    """Types by number. `modules` is a directory with a file of BTF for each module."""

    def __init__(self, kernel: Btf, modules: Path = MODULES) -> None:
        self._parts = [kernel]
        self._modules: list[str | None] = [None]
        self._directory = modules
        self._first = kernel.count
        self._shapes: dict[int, Shape] = {}
        self._members: dict[int, list[tuple[str, int, int]]] = {}

    def find(self, name: str) -> int:
        """Return the struct of this name, 0 if neither the kernel nor an opened module has one."""
        for part, btf in enumerate(self._parts):
            if name in btf.structs:
                return self._number(part, btf.structs[name])
        return 0

    def open_modules(self, names: Iterable[str]) -> None:
        """Open the modules that have a type of one of these names."""
        wanted = {name.encode() for name in names}
        paths = sorted(self._directory.glob("*")) if wanted else []
        for path in paths:
            if path.name == "vmlinux" or len(self._parts) > _MOST_MODULES:
                continue
            try:
                data = path.read_bytes()
                if not wanted.isdisjoint(data.split(b"\0")):
                    self._parts.append(Btf(data, self._parts[0]))
                    self._modules.append(path.name)
                    self.__dict__.pop("_embeddings", None)
                    self.__dict__.pop("_structs", None)
            except (OSError, BtfError):  # unloaded just now, or built for another kernel
                continue

    def module(self, number: int) -> str | None:
        """Return the module that a type is of, None if it is the kernel's."""
        return self._modules[number // _MODULE]

    def shape(self, number: int) -> Shape:
        """Return what a type is behind its modifiers."""
        if number not in self._shapes:
            part, type_id = divmod(number, _MODULE)
            shape = self._parts[part].shape(type_id)
            if part:
                shape = shape._replace(
                    type_id=self._number(part, shape.type_id),
                    target=self._number(part, shape.target),
                )
            self._shapes[number] = shape
        return self._shapes[number]

    def members(self, number: int) -> list[tuple[str, int, int]]:
        """Return name, byte offset and type of each member of a struct or union."""
        if number not in self._members:
            part, type_id = divmod(number, _MODULE)
            self._members[number] = [
                (name, offset, self._number(part, member))
                for name, offset, member in self._parts[part].members(type_id)
            ]
        return self._members[number]

    @cached_property
    def _embeddings(self) -> tuple[I64, I64, I64]:
        """What contains a struct, the byte offset in it, and the struct, in order of structs."""
        parts = []
        for part, btf in enumerate(self._parts):
            outer, offset, inner = btf.embeddings()
            parts.append(np.stack([self._numbers(part, outer), offset, self._numbers(part, inner)]))
        rows = np.concatenate(parts, axis=1)
        outer, offset, inner = rows[:, np.argsort(rows[2], kind="stable")]
        return outer, offset, inner

    @cached_property
    def _structs(self) -> tuple[I64, I64]:
        """The numbers and sizes of structs with names, in order."""
        parts = []
        for part, btf in enumerate(self._parts):
            ids, sizes = btf.named_structs()
            parts.append(np.stack([self._numbers(part, ids), sizes]))
        numbers, sizes = np.concatenate(parts, axis=1)
        return numbers, sizes

    def containers(self, struct: int, offset: int) -> tuple[I64, I64]:
        """Return the structs with names that have this one at a byte offset, however deep, and
        their sizes; those of modules as far as they are open."""
        outer, place, inner = self._embeddings
        found = [np.zeros(0, np.int64)]
        structs, rest = np.array([struct]), np.array([offset])
        for _ in range(_MOST_DEPTH):
            first = np.searchsorted(inner, structs, side="left")
            counts = np.searchsorted(inner, structs, side="right") - first
            row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            row += np.repeat(first, counts)
            left = np.repeat(rest, counts) - place[row]
            structs, rest = outer[row[left >= 0]], left[left >= 0]
            found.append(structs[rest == 0])
        numbers, sizes = self._structs
        containers = distinct(np.concatenate(found))
        row = np.minimum(np.searchsorted(numbers, containers), len(numbers) - 1)
        row = row[numbers[row] == containers]
        return numbers[row], sizes[row]

    def _numbers(self, part: int, type_ids: I64) -> I64:
        return np.where(type_ids < self._first, type_ids, type_ids + part * _MODULE)

    def _number(self, part: int, type_id: int) -> int:
        return type_id if type_id < self._first else part * _MODULE + type_id
