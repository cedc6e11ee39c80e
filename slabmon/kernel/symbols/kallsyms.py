# SPDX-License-Identifier: Apache-2.0
"""Kernel text symbols of /proc/kallsyms, over module loads and unloads.

Core text never changes. Modules come and go and their addresses are used again, so each call
site in a module carries the generation of the set of modules it was seen in, and is resolved
only against modules that were there in that generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slabmon.kernel.probe.direct_map import TELLTALES
from slabmon.kernel.symbols.table import Table

CORE_START, CORE_END = "_stext", "_etext"
UNKNOWN = "[unknown]"
FOREVER = 1 << 32
_VARIABLES = frozenset(chain(*TELLTALES.values()))
# Allocator entry points that trace a large kmalloc a first time (mm/slub.c, 6.11+).
_LARGE_ENTRIES = (
    "__kmalloc_noprof",
    "__kmalloc_node_noprof",
    "__kmalloc_node_track_caller_noprof",
    "__do_kmalloc_node",
    "__kvmalloc_node_noprof",
    "__kmalloc_node_track_caller",
)
# Unloaded modules whose symbols stay, for call sites that no snapshot has named yet.
_KEPT_MODULES = 64
_NEWLINE, _TAB = 10, 9


class Location(NamedTuple):
    """A place in kernel text, without its address: symbol, bytes into it, module (None: core)."""

    symbol: str
    offset: int
    module: str | None


@dataclass
class Module:
    """A module's text while generations first <= g < last. `ranges` are [start, end)."""

    name: str
    ranges: list[tuple[int, int]]
    first: int
    last: int = FOREVER
    table: Table | None = None


class History(NamedTuple):
    """Modules as (name, ranges, first, last), and the generation they were last read in."""

    modules: tuple[tuple[str, list[tuple[int, int]], int, int], ...]
    confirmed: int


def parse(data: bytes) -> tuple[Table, dict[str, Table], dict[str, int]]:
    """Core text, text of each module, and the variables slabmon looks for."""
    buffer = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(buffer == _NEWLINE)
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    digits = buffer[starts[:, None] + np.arange(16)].tobytes()
    addresses = np.frombuffer(bytes.fromhex(digits.decode("ascii")), ">u8").astype(np.uint64)
    kinds = buffer[starts + 17]
    text = np.isin(kinds, np.frombuffer(b"tTwW", np.uint8))
    end_of_text = data.find(f" {CORE_END}\n".encode())
    if end_of_text >= 0:  # on arm64 it belongs to what follows, which is data
        text[np.searchsorted(ends, end_of_text)] = True
    name_starts = starts + 19

    data_symbols = {}
    lengths = {len(name) for name in _VARIABLES}
    for index in np.flatnonzero(np.isin(kinds, np.frombuffer(b"dDbBrR", np.uint8))):
        length = ends[index] - name_starts[index]
        if length in lengths:
            name = data[name_starts[index] : ends[index]].decode("ascii", "replace")
            if name in _VARIABLES and addresses[index]:
                data_symbols[name] = int(addresses[index])

    tabs = np.flatnonzero(buffer == _TAB)
    line_of_tab = np.searchsorted(ends, tabs)
    name_ends = ends.copy()
    name_ends[line_of_tab] = tabs
    in_module = np.zeros(len(ends), bool)
    in_module[line_of_tab] = True

    by_module: dict[bytes, list[int]] = {}
    for index in np.flatnonzero(text & in_module):
        by_module.setdefault(data[name_ends[index] + 2 : ends[index] - 1], []).append(int(index))

    def table(rows: np.ndarray) -> Table:
        return Table(addresses[rows], name_starts[rows], name_ends[rows], buffer)

    modules = {
        name.decode("utf-8", "replace"): table(np.array(rows)) for name, rows in by_module.items()
    }
    return table(np.flatnonzero(text & ~in_module)), modules, data_symbols


def parse_modules(text: str) -> dict[str, tuple[int, int]]:
    """Name -> [start, end) from /proc/modules; the size covers more than text."""
    found = {}
    for line in text.splitlines():
        fields = line.split()
        start = int(fields[5], 16)
        found[fields[0]] = (start, start + int(fields[1]))
    return found


class Symbols:
    """Resolves call sites. `readable` is False when the kernel hides addresses."""

    def __init__(
        self,
        kallsyms: Path = Path("/proc/kallsyms"),
        modules: Path = Path("/proc/modules"),
        history: History | None = None,
    ) -> None:
        """With the history of an earlier process, module events since then are to be told, and
        refresh() called, before anything is resolved."""
        self._kallsyms = kallsyms
        self._modules_file = modules
        self._modules: list[Module] = []
        self._confirmed = 0
        self.data: Mapping[str, int] = {}
        if history is None:
            self._core = self._read(0)
        else:
            self._modules = [Module(*entry) for entry in history.modules]
            self._confirmed = history.confirmed
            self._core, _, self.data = parse(kallsyms.read_bytes())
        self.readable = bool(len(self._core) and self._core.address(-1))
        self._starts: dict[str, int | None] = {}
        self._look_up(CORE_START, CORE_END, *_LARGE_ENTRIES)
        self._bounds = (self.address(CORE_START) or 0, self.address(CORE_END) or 0)

    def _read(self, generation: int) -> Table:
        core, tables, self.data = parse(self._kallsyms.read_bytes())
        try:
            loaded = parse_modules(self._modules_file.read_text())
        except OSError:
            loaded = {}
        for module in self._modules:
            if module.last == FOREVER and loaded.get(module.name, (0, 0))[0] != module.ranges[0][0]:
                # Its end was not seen. It was there when symbols were last read; whether it was
                # in the generations since then is not known.
                module.last = max(self._confirmed, module.first) + 1
        live = {module.name: module for module in self._modules if module.last == FOREVER}
        for name, table in tables.items():
            if name not in loaded:  # ftrace and BPF trampolines: named, but not modules
                continue
            if name in live:
                live[name].table = table
            else:
                self._modules.append(Module(name, [loaded[name]], generation, table=table))
        self._confirmed = generation
        self._forget()
        return core

    def _forget(self) -> None:
        """Drops the symbols of modules gone long ago; which addresses were theirs stays known."""
        gone = [m for m in self._modules if m.last != FOREVER and m.table is not None]
        for module in gone[:-_KEPT_MODULES]:
            module.table = None

    def history(self) -> History:
        """What a later process has to know of the modules there were."""
        return History(
            tuple((m.name, m.ranges, m.first, m.last) for m in self._modules), self._confirmed
        )

    def refresh(self, generation: int) -> None:
        """Reads module symbols again; `generation` is the current one."""
        self._read(generation)

    def module_loaded(self, name: str, ranges: list[tuple[int, int]], generation: int) -> None:
        """A module appeared in `generation`; its symbols are read with the next refresh()."""
        self._modules.append(Module(name, ranges, generation))

    def module_freed(self, name: str, generation: int) -> None:
        """A module is gone from `generation` on."""
        for module in self._modules:
            if module.name == name and module.last == FOREVER:
                module.last = generation

    def address(self, name: str) -> int | None:
        """Address of a core text symbol."""
        if name not in self._starts:
            self._look_up(name)
        return self._starts[name] or None

    def _look_up(self, *names: str) -> None:
        found = self._core.find(names)
        self._starts |= {name: found.get(name) for name in names}

    def range_of(self, name: str) -> tuple[int, int] | None:
        """[start, end) of a core text symbol."""
        start = self.address(name)
        return (start, self._core.end(start)) if start else None

    def core_text(self) -> tuple[int, int]:
        """[start, end) of the kernel's own text; (0, 0) when addresses are hidden."""
        return self._bounds

    def large_entries(self) -> list[tuple[int, int]]:
        """[start, end) of the allocator's entry points for large sizes, those that exist."""
        return [found for name in _LARGE_ENTRIES if (found := self.range_of(name))]

    def function_range(self, name: str) -> tuple[int, int] | None:
        """[start, end) of a function of the core kernel or a loaded module."""
        found = self.range_of(name)
        for module in self._modules:
            if found is None and module.table is not None and module.last == FOREVER:
                start = module.table.find([name]).get(name)
                found = None if start is None else (start, module.table.end(start))
        return found

    def module_range(self, name: str) -> tuple[int, int] | None:
        """[start, end) of a loaded module."""
        for module in self._modules:
            if module.name == name and module.last == FOREVER:
                return module.ranges[0]
        return None

    def resolve(self, address: int, generation: int) -> Location:
        """Where an address of that generation lies; UNKNOWN when nothing is known of it."""
        if self._bounds[0] <= address < self._bounds[1]:
            found = self._core.at(address)
            return Location(*found, None) if found else Location(UNKNOWN, 0, None)
        best: tuple[int, Module] | None = None
        for module in self._modules:
            if not module.first <= generation < module.last:
                continue
            for start, end in module.ranges:
                if start <= address < end and (best is None or start > best[0]):
                    best = start, module
        if best is None:
            return Location(UNKNOWN, 0, None)
        start, module = best
        found = module.table.at(address) if module.table else None
        if found is None or found[1] > address - start:  # a symbol before this range
            return Location(UNKNOWN, address - start, module.name)
        return Location(*found, module.name)
