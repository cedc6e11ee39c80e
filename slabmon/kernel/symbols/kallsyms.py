# SPDX-License-Identifier: Apache-2.0
"""Kernel text symbols of /proc/kallsyms, over module loads and unloads.

Core text never changes. Modules come and go and their addresses are used again, so each call
site in a module carries the generation of the set of modules it was seen in, and is resolved
only against modules that were loaded in that generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import I64, Bool, contained
from slabmon.kernel.probe.direct_map import TELLTALES
from slabmon.kernel.symbols.rust import PREFIX, demangled
from slabmon.kernel.symbols.table import SymbolTable

CORE_START, CORE_END = "_stext", "_etext"
UNKNOWN = "[unknown]"
FOREVER = 1 << 32
_VARIABLES = frozenset(chain(*TELLTALES.values()))
# Allocator entry points that emit a first event for a large kmalloc (mm/slub.c, 6.11+).
_LARGE_ENTRIES = (
    "__kmalloc_noprof",
    "__kmalloc_node_noprof",
    "__kmalloc_node_track_caller_noprof",
    "__do_kmalloc_node",
    "__kvmalloc_node_noprof",
    "__kmalloc_node_track_caller",
)
# Unloaded modules whose symbols are kept, for call sites that no snapshot has resolved yet.
_KEPT_MODULES = 64
_NEWLINE, _TAB = 10, 9
_TEXT_KINDS, _DATA_KINDS = b"tTwW", b"dDbBrR"


class Location(NamedTuple):
    """A place in kernel text: symbol, bytes into it, and module (None for the core kernel)."""

    symbol: str
    offset: int
    module: str | None


@dataclass
class Module:
    """A module's text in the generations first <= g < last. `ranges` are [start, end)."""

    name: str
    ranges: list[tuple[int, int]]
    first: int
    last: int = FOREVER
    table: SymbolTable | None = None


class ModuleHistory(NamedTuple):
    """Modules as (name, ranges, first, last), and the generation of the last refresh."""

    modules: tuple[tuple[str, list[tuple[int, int]], int, int], ...]
    confirmed: int


class _Lines:
    """The lines of /proc/kallsyms, by columns."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.buffer = np.frombuffer(data, np.uint8)
        self.ends = ends = np.flatnonzero(self.buffer == _NEWLINE)
        starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        digits = self.buffer[starts[:, None] + np.arange(16)].tobytes()
        addresses = np.frombuffer(bytes.fromhex(digits.decode("ascii")), ">u8")
        self.addresses = addresses.astype(np.uint64)
        self.kinds = self.buffer[starts + 17]
        self.name_starts = starts + 19
        tabs = np.flatnonzero(self.buffer == _TAB)
        line_of_tab = np.searchsorted(ends, tabs)
        self.name_ends = ends.copy()
        self.name_ends[line_of_tab] = tabs
        self.in_module = np.zeros(len(ends), bool)
        self.in_module[line_of_tab] = True

    def text(self) -> Bool:
        """Return which lines are functions. Behind the end of the core's text none is, although all
        variables of a section have letters of text if a part of it is executable, as .data is
        with __vsyscall_page (7.3, x86-64)."""
        text = self._of_kind(_TEXT_KINDS)
        at = self.data.find(f" {CORE_END}\n".encode())
        if at >= 0:
            end = int(np.searchsorted(self.ends, at))
            text &= self.in_module | (self.addresses <= self.addresses[end])
            text[end] = True  # on arm64 it belongs to what follows, which is data
        return text

    def variables(self) -> Bool:
        """Return which lines are variables."""
        return self._of_kind(_DATA_KINDS + _TEXT_KINDS) & ~self.text()

    def _of_kind(self, letters: bytes) -> Bool:
        return contained(self.kinds, np.frombuffer(letters, np.uint8))

    def tables(self, lines: Bool) -> tuple[SymbolTable, dict[str, SymbolTable]]:
        """Return the symbols of these lines: the core's, and those of each module."""
        by_module: dict[bytes, list[int]] = {}
        for index in np.flatnonzero(lines & self.in_module).tolist():
            name = self.data[self.name_ends[index] + 2 : self.ends[index] - 1]
            by_module.setdefault(name, []).append(index)
        modules = {
            name.decode("utf-8", "replace"): self._table(np.array(rows))
            for name, rows in by_module.items()
        }
        return self._table(np.flatnonzero(lines & ~self.in_module)), modules

    def _table(self, rows: I64) -> SymbolTable:
        return SymbolTable(
            self.addresses[rows], self.name_starts[rows], self.name_ends[rows], self.buffer
        )


def parse(data: bytes) -> tuple[SymbolTable, dict[str, SymbolTable], dict[str, int]]:
    """Parse /proc/kallsyms.

    Return the symbols of core text, those of each module's text, and the addresses of TELLTALES.
    """
    lines = _Lines(data)
    variables = {}
    lengths = {len(name) for name in _VARIABLES}
    for index in np.flatnonzero(lines.variables()):
        start, end = lines.name_starts[index], lines.ends[index]
        if end - start in lengths:
            name = data[start:end].decode("ascii", "replace")
            if name in _VARIABLES and lines.addresses[index]:
                variables[name] = int(lines.addresses[index])
    return *lines.tables(lines.text()), variables


def parse_data(data: bytes) -> tuple[SymbolTable, dict[str, SymbolTable]]:
    """Parse the variables in /proc/kallsyms: the core's, and those of each module. Only a kernel
    with CONFIG_KALLSYMS_ALL lists more than a few."""
    lines = _Lines(data)
    return lines.tables(lines.variables() & (lines.addresses >= np.uint64(1 << 63)))


def parse_modules(text: str) -> dict[str, tuple[int, int]]:
    """Parse /proc/modules: name -> [start, end), which covers more than text."""
    ranges = {}
    for line in text.splitlines():
        fields = line.split()
        start = int(fields[5], 16)
        ranges[fields[0]] = (start, start + int(fields[1]))
    return ranges


def shows_addresses(core: SymbolTable) -> bool:
    """Return whether the addresses of the core's functions were not hidden."""
    return bool(len(core) and core.address(-1))


def _mangled(table: SymbolTable, name: str) -> list[str]:
    """Return the names in a table that are this one when demangled."""
    return [each for each in table.names_from(PREFIX) if demangled(each) == name]


def _symbol(table: SymbolTable | None, address: int, base: int | None) -> tuple[str, int] | None:
    """Return name and offset of an address, None if its symbol is before the module's text, which
    starts at `base`."""
    symbol = table.at(address) if table else None
    if symbol is not None and base is not None and symbol[1] > address - base:
        return None
    return symbol


class Symbols:
    """Resolves call sites. `readable` is False if the kernel hides addresses (kptr_restrict),
    `hidden` is True if it hid them at the last reading: what was read before stays known.

    `data` has the addresses of the variables named in probe.direct_map.TELLTALES.
    """

    def __init__(
        self,
        kallsyms: Path = Path("/proc/kallsyms"),
        modules: Path = Path("/proc/modules"),
        history: ModuleHistory | None = None,
    ) -> None:
        """Read both files.

        When restoring `history`, feed the module events since then and call refresh() before
        resolving anything.
        """
        self._kallsyms = kallsyms
        self._modules_file = modules
        self._modules: list[Module] = []
        self._confirmed = 0
        self._loaded: dict[str, tuple[int, int]] = {}
        self.hidden = False
        self.data: Mapping[str, int] = {}
        if history is None:
            self._core = self._read(0)
        else:
            self._modules = [Module(*entry) for entry in history.modules]
            self._confirmed = history.confirmed
            self._core, _, self.data = parse(kallsyms.read_bytes())
        self.readable = shows_addresses(self._core)
        self._starts: dict[str, int | None] = {}
        self._look_up(CORE_START, CORE_END, *_LARGE_ENTRIES)
        self._bounds = (self.address(CORE_START) or 0, self.address(CORE_END) or 0)

    def _read(self, generation: int) -> SymbolTable:
        core, tables, data = parse(self._kallsyms.read_bytes())
        self._loaded = self._read_modules()
        self.hidden = not shows_addresses(core)
        for module in self._modules:
            if module.last == FOREVER and not self._is_in_place(module):
                # Its unload was missed. It was loaded at the last refresh; whether it still was
                # in the generations since then is not known.
                module.last = max(self._confirmed, module.first) + 1
        if not self.hidden:
            self.data = data
            self._take_tables(tables, generation)
        self._confirmed = generation
        self._forget()
        return core

    def _is_in_place(self, module: Module) -> bool:
        """Return whether a module is loaded where it was, as far as the kernel shows that."""
        if module.name not in self._loaded:
            return False
        return self.hidden or self._loaded[module.name][0] == module.ranges[0][0]

    def _take_tables(self, tables: Mapping[str, SymbolTable], generation: int) -> None:
        """Take over the symbols of modules, which may be ones not known so far."""
        live = {module.name: module for module in self._modules if module.last == FOREVER}
        for name, table in tables.items():
            if name not in self._loaded:  # ftrace and BPF trampolines look like modules here
                continue
            if name in live:
                live[name].table = table
            else:
                self._modules.append(Module(name, [self._loaded[name]], generation, table=table))

    def _read_modules(self) -> dict[str, tuple[int, int]]:
        try:
            return parse_modules(self._modules_file.read_text())
        except OSError:
            return {}

    def modules_changed(self) -> bool:
        """Return whether other modules are loaded than at the last refresh, or elsewhere."""
        return self._read_modules() != self._loaded

    def _forget(self) -> None:
        """Drop the symbols of modules unloaded long ago. Their address ranges stay known."""
        unloaded = [m for m in self._modules if m.last != FOREVER and m.table is not None]
        for module in unloaded[:-_KEPT_MODULES]:
            module.table = None

    def history(self) -> ModuleHistory:
        """Return the modules seen so far, for a later process."""
        return ModuleHistory(
            tuple((m.name, m.ranges, m.first, m.last) for m in self._modules), self._confirmed
        )

    def refresh(self, generation: int) -> None:
        """Read module symbols again. `generation` is the current one."""
        self._read(generation)

    def module_loaded(self, name: str, ranges: list[tuple[int, int]], generation: int) -> None:
        """Note a module loaded in `generation`. The next refresh() reads its symbols."""
        self._modules.append(Module(name, ranges, generation))

    def module_freed(self, name: str, generation: int) -> None:
        """Note that a module is unloaded from `generation` on."""
        for module in self._modules:
            if module.name == name and module.last == FOREVER:
                module.last = generation

    def address(self, name: str) -> int | None:
        """Return the address of a core text symbol, or None."""
        if name not in self._starts:
            self._look_up(name)
        return self._starts[name] or None

    def _look_up(self, *names: str) -> None:
        addresses = self._core.find(names)
        self._starts |= {name: addresses.get(name) for name in names}

    def range_of(self, name: str) -> tuple[int, int] | None:
        """Return [start, end) of a core text symbol, or None."""
        start = self.address(name)
        return (start, self._core.end(start)) if start else None

    def core_text(self) -> tuple[int, int]:
        """Return [start, end) of the kernel's own text; (0, 0) if addresses are hidden."""
        return self._bounds

    def large_entries(self) -> list[tuple[int, int]]:
        """Return [start, end) of each entry point for large sizes that this kernel has."""
        ranges = [self.range_of(name) for name in _LARGE_ENTRIES]
        return [entry for entry in ranges if entry]

    def _loaded_tables(self, module: str = "") -> list[SymbolTable]:
        """Return the symbols of the core kernel and of all modules, or of one module."""
        loaded = [
            m.table
            for m in self._modules
            if m.last == FOREVER and m.table is not None and module in ("", m.name)
        ]
        return loaded if module else [self._core, *loaded]

    def function_ranges(self, name: str, module: str = "") -> list[tuple[int, int]]:
        """Return the [start, end) of the functions of this name in a module or, if none is named,
        in the core kernel, else in a loaded module: several share one, unless it has a number
        behind, as in name#2."""
        plain, _, number = name.partition("#")
        for table in self._loaded_tables(module):
            known = _mangled(table, plain) if "::" in plain else [plain]
            starts = [at for each in known for at in table.copies(each)]
            starts = starts or sorted(table.find(known).values())
            if number.isdecimal():
                starts = starts[int(number) - 1 :][:1] if int(number) else []
            if starts:
                return [(start, table.end(start)) for start in starts]
        return []

    def function_range(self, name: str) -> tuple[int, int] | None:
        """Return [start, end) of the first function of this name, or None."""
        return next(iter(self.function_ranges(name)), None)

    def module_ranges(self, name: str) -> tuple[tuple[int, int], ...]:
        """Return the [start, end) of a loaded module's text; () if it is not loaded."""
        for module in self._modules:
            if module.name == name and module.last == FOREVER:
                return tuple((start, end) for start, end in module.ranges)
        return ()

    def loaded_modules(self) -> set[str]:
        """Return the names of the modules that are loaded."""
        return {module.name for module in self._modules if module.last == FOREVER}

    @property
    def has_modules(self) -> bool:
        """Whether this kernel can load modules."""
        return self._modules_file.exists()

    def similar(self, name: str) -> list[str]:
        """Return the functions of the core kernel and of loaded modules whose names are about as
        long and begin or end as this one."""
        return [each for table in self._loaded_tables() for each in table.similar(name)]

    def resolve(self, address: int, generation: int) -> Location:
        """Return the location of an address of that generation; symbol UNKNOWN if it has none.

        Functions of one name are told apart: the second in memory is name#2. Names of Rust are
        demangled.
        """
        table, module, base = self._table_of(address, generation)
        symbol = _symbol(table, address, base)
        if symbol is None:
            return Location(UNKNOWN, 0 if base is None else address - base, module)
        return Location(demangled(symbol[0]), symbol[1], module)

    def size(self, address: int, generation: int) -> int:
        """Return the size in bytes of the function at an address; 0 if it has none."""
        table, _, base = self._table_of(address, generation)
        symbol = _symbol(table, address, base)
        if table is None or symbol is None:
            return 0
        start = address - symbol[1]
        return table.end(start) - start

    def _table_of(
        self, address: int, generation: int
    ) -> tuple[SymbolTable | None, str | None, int | None]:
        """Return the symbols that an address is among, its module, and the start of that."""
        if self._bounds[0] <= address < self._bounds[1]:
            return self._core, None, None
        best: tuple[int, Module] | None = None
        for module in self._modules:
            if not module.first <= generation < module.last:
                continue
            for start, end in module.ranges:
                if start <= address < end and (best is None or start > best[0]):
                    best = start, module
        if best is None:
            return None, None, None
        return best[1].table, best[1].name, best[0]
