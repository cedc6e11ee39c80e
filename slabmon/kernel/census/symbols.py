# SPDX-License-Identifier: Apache-2.0
"""Functions and tables of functions of the kernel and its modules, by the addresses of them that
objects hold."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import I64, U64, Bool
from slabmon.kernel.census.contents import NONE, UNIT
from slabmon.kernel.census.evidence import groups
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.symbols import kallsyms
from slabmon.kernel.symbols.table import SymbolTable

_TABLE_BYTES = 128
_FEW = 200  # variables that a kernel lists in any case: edges of sections
_LARGEST_IMAGE = 1 << 29  # bytes, of the kernel or a module
_PIECE = 1 << 13  # addresses looked at at once
_GAP = 3  # words in a table that are not functions; more end it
_MARKS = ("__start_", "__stop_", "__init")  # edges of sections, not variables
_IMAGE = ("Kernel code", "Kernel rodata", "Kernel data", "Kernel bss")
_CONSTANTS = _IMAGE[:2]  # on arm64 they are part of the code
_STARTS, _ENDS = ("_text", "_stext"), ("_etext", "__init_begin")
_EDGES = (*_STARTS, *_ENDS)
_UNITS = 256  # of constants, read at once
_AS_RARE = 8  # functions of a table that are used so many times as often as another say less


Tables = Mapping[str | None, SymbolTable]  # by module; None: the core kernel


class Symbol(NamedTuple):
    """What is at an address: `label`, for people, the module it belongs to."""

    label: str
    module: str | None
    function: bool


class _Index:
    """Symbols of several tables by address."""

    def __init__(self, tables: Tables) -> None:
        self._tables = list(tables.items())
        starts = [table.addresses() for _, table in self._tables]
        number = np.repeat(np.arange(len(starts)), [len(part) for part in starts])
        joined = np.concatenate([np.zeros(0, np.uint64), *starts])
        order = np.argsort(joined, kind="stable")
        self._starts = joined[order]
        self._table_of = number[order]

    def __len__(self) -> int:
        return len(self._starts)

    def starts_at(self, addresses: U64) -> Bool:
        """Return whether a symbol starts at each address."""
        if not len(self._starts):
            return np.zeros(len(addresses), bool)
        place = np.minimum(np.searchsorted(self._starts, addresses), len(self._starts) - 1)
        found: Bool = self._starts[place] == addresses
        return found

    def named(self, addresses: U64, is_function: bool) -> dict[int, Symbol]:
        """Return the symbols that start at these addresses."""
        starts = addresses[self.starts_at(addresses)]
        symbols: dict[int, Symbol] = {}
        for number, rows in groups(self._table_of[self.places(starts)]):
            module, table = self._tables[number]
            names = table.names_of(starts[rows])
            for address, name in zip(starts[rows].tolist(), names, strict=True):
                if name and not name.startswith(_MARKS):
                    symbols[address] = Symbol(name, module, is_function)
        return symbols

    def places(self, addresses: U64) -> I64:
        """Return the number of the last symbol that starts at each address or before it, -1 if
        there is none."""
        return np.searchsorted(self._starts, addresses, side="right") - 1

    def symbol(self, place: int, is_function: bool) -> Symbol | None:
        """Return a symbol by its number."""
        if place < 0:
            return None
        module, table = self._tables[self._table_of[place]]
        name = (table.at(int(self._starts[place])) or ("", 0))[0]
        if not name or name.startswith(_MARKS):
            return None
        return Symbol(name, module, is_function)

    def at(self, address: int, is_function: bool) -> Symbol | None:
        """Return the last symbol that starts at an address or before it."""
        return self.symbol(int(self.places(np.array([address], np.uint64))[0]), is_function)


class Symbols:
    """Symbols of the running kernel. `image` is where the kernel lies, `text` its functions,
    `constants` what it never writes to, most tables of functions among it, all [start, end).
    `parts` are the image's parts of /proc/iomem: what is between them was given back after the
    start (free_initmem(), free_kernel_image_pages()) and holds anything. `data` are symbols of
    variables, which a kernel lists only with CONFIG_KALLSYMS_ALL; `sections` are where sections of
    modules begin.

    Nothing is read but the image and, of each module, from its first section or symbol to its
    last: around modules, devices may be mapped (ioremap()), where reading has effects."""

    def __init__(
        self,
        functions: Tables,
        *,
        image: tuple[int, int],
        text: tuple[int, int],
        data: Tables,
        constants: tuple[int, int] = (0, 0),
        parts: Sequence[tuple[int, int]] = (),
        sections: Mapping[str, Sequence[int]] = MappingProxyType({}),
    ) -> None:
        self._functions = _Index(functions)
        self._data = _Index(data)
        self._data_ranges = {
            module: (table.address(0), table.address(-1) + UNIT)
            for module, table in data.items()
            if len(table) >= (_FEW if module is None else 1)
        }
        self._text = text
        self._constants = constants
        self._uses: tuple[U64, I64] | None = None  # functions in constants, and how often each
        self._parts = parts
        spans = [image, *_modules(functions, data, sections)]
        self._starts, self._ends = np.array(_joined(spans), np.uint64).reshape(-1, 2).T

    @property
    def known(self) -> bool:
        """Whether any symbol is known."""
        return len(self._functions) > 0

    def functions(self, words: U64) -> Bool:
        """Return which words are the address of a function."""
        return self._functions.starts_at(words)

    def function(self, address: int) -> Symbol | None:
        """Return the function that an address is in."""
        return self._functions.at(address, is_function=True)

    def in_image(self, words: U64) -> Bool:
        """Return which words are an address in the kernel's image or in a module."""
        inside: Bool = (words >= self._starts[0]) & (words < self._ends[-1])
        near = np.flatnonzero(inside)
        place = np.searchsorted(self._starts, words[near], side="right") - 1
        inside[near] = words[near] < self._ends[place]
        return inside

    def look_up(self, memory: Memory, addresses: U64) -> dict[int, Symbol]:
        """Return what is at those of these distinct addresses, in the kernel's image or a module,
        where a function or a variable with a name starts, or a table of functions, which is named
        after them."""
        addresses = addresses[self.in_image(addresses)]
        known = self._functions.named(addresses, is_function=True)
        known |= self._data.named(addresses, is_function=False)
        start, end = self._text
        in_data = (addresses - np.uint64(start)) >= np.uint64(end - start)
        in_data &= ~np.isin(addresses, np.array(list(known), np.uint64))
        rest = addresses[in_data]
        for part in np.split(rest, range(_PIECE, len(rest), _PIECE)):
            known |= self._tables(memory, part)
        return known

    def data_units(self) -> U64:
        """Return the addresses of all units of memory that hold variables with names: of the kernel
        none if it does not list its own."""
        ranges = []
        for module, edges in self._data_ranges.items():
            if module is None:
                _, end_of_text = self._text
                ranges += [(max(start, end_of_text), end) for start, end in self._parts]
            else:
                ranges.append(edges)
        pages = [
            np.arange(start - start % UNIT, end, UNIT, dtype=np.uint64)
            for start, end in ranges
            if start < end < start + _LARGEST_IMAGE
        ]
        return np.unique(np.concatenate([np.zeros(0, np.uint64), *pages]))

    def variables(self, addresses: U64) -> Iterator[tuple[Symbol, I64]]:
        """Yield the variables that these addresses are in, and the rows of the addresses."""
        place = self._data.places(addresses)
        for number, rows in groups(place):
            symbol = self._data.symbol(number, is_function=False)
            if symbol is not None:
                yield symbol, rows

    def _tables(self, memory: Memory, addresses: U64) -> dict[int, Symbol]:
        raw = memory.gather(addresses, _TABLE_BYTES).view(np.uint64)
        held = self.functions(raw.reshape(-1)).reshape(raw.shape)
        rows = np.flatnonzero(held[:, :_GAP].any(axis=1))
        row, place = np.nonzero(_beginning(held[rows]))
        words, number = np.unique(raw[rows[row], place], return_inverse=True)
        functions = self._functions.named(words, is_function=True)
        known = [functions.get(word) for word in words.tolist()]
        uses = self._count_uses(memory, words).tolist()
        families: dict[int, list[tuple[Symbol, int]]] = {}
        for address, word in zip(addresses[rows[row]].tolist(), number.tolist(), strict=True):
            function = known[word]
            if function is not None:
                families.setdefault(address, []).append((function, uses[word]))
        return {address: _family(family) for address, family in families.items()}

    def _count_uses(self, memory: Memory, functions: U64) -> I64:
        """Return how often each function's address lies in the kernel's constants, 1 at least: one
        that many tables hold tells little of any of them."""
        if self._uses is None:
            self._uses = np.unique(self._constant_functions(memory), return_counts=True)
        values, counts = self._uses
        if not len(values):
            return np.ones(len(functions), np.int64)
        place = np.minimum(np.searchsorted(values, functions), len(values) - 1)
        return np.where(values[place] == functions, counts[place], 1)

    def _constant_functions(self, memory: Memory) -> U64:
        """Return the words of the kernel's constants that are an address in its text."""
        first, end = self._constants
        start, end_of_text = self._text
        held = [np.zeros(0, np.uint64)]
        if first < end < first + _LARGEST_IMAGE:
            units = np.arange(first - first % UNIT, end, UNIT, dtype=np.uint64)
            for part in np.split(units, range(_UNITS, len(units), _UNITS)):
                words = memory.gather(part, UNIT).view(np.uint64).reshape(-1)
                held.append(words[words - np.uint64(start) < np.uint64(end_of_text - start)])
        return np.concatenate(held)


def _modules(
    functions: Tables, data: Tables, sections: Mapping[str, Sequence[int]]
) -> Iterator[tuple[int, int]]:
    """Yield where each module lies, [start, end)."""
    for module in {*functions, *data, *sections} - {None}:
        assert module is not None
        tables = [tables[module] for tables in (functions, data) if len(tables.get(module, ()))]
        edges = [table.address(end) for table in tables for end in (0, -1)]
        edges += sections.get(module, ())
        if edges:
            yield min(edges), max(edges) // UNIT * UNIT + UNIT


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans in order, those that overlap as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _beginning(held: Bool) -> Bool:
    """Return which functions, of rows of words that are or are not one, are of the table that each
    row begins with: before more than _GAP - 1 words that are none."""
    column = np.arange(held.shape[1])
    last = np.maximum.accumulate(np.where(held, column, NONE), axis=1)
    before = np.concatenate([np.full((len(held), 1), NONE), last[:, :-1]], axis=1)
    begins_another = held & (before != NONE) & (column - before > _GAP)
    beginning: Bool = held & ~np.logical_or.accumulate(begins_another, axis=1)
    return beginning


def _family(functions: Sequence[tuple[Symbol, int]]) -> Symbol:
    """Return what the names of functions of one table have in common, such as `ext4_file_*`. Each
    comes with the number of its uses: of names that begin with different words, the word counts
    whose functions are used most rarely elsewhere, such as `timerfd` beside `noop_llseek`."""
    weights: dict[str, float] = {}
    for function, uses in functions:
        word = _first_word(function)
        weights[word] = weights.get(word, 0) + 1 / uses
    telling = max(weights, key=lambda word: weights[word])
    alike = [each for each in functions if _first_word(each[0]) == telling]
    rarest = min(uses for _, uses in alike)
    rare = [function for function, uses in alike if uses <= _AS_RARE * rarest]
    return Symbol(_common_name([function.label for function in rare]), rare[0].module, False)


def _first_word(function: Symbol) -> str:
    return function.label.lstrip("_").partition("_")[0]


def _common_name(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    letters = zip(*names, strict=False)
    alike = itertools.takewhile(lambda each: len(set(each)) == 1, letters)
    prefix = "".join(each[0] for each in alike)
    return f"{prefix[: prefix.rfind('_') + 1] or prefix}*"


def image_parts(iomem: str, edges: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return where the parts of the kernel's image are mapped, by their names in /proc/iomem:
    [start, end). `edges` are the addresses of those of _EDGES that are known."""
    parts = {}
    for line in iomem.splitlines():
        span, _, name = line.strip().partition(" : ")
        if name in _IMAGE:
            first, last = (int(number, 16) for number in span.split("-"))
            parts[name] = (first, last + 1)
    if not parts:
        return {}
    first, end = min(parts.values())
    offset = _start_of_code(edges, end - first) - first
    return {name: (first + offset, end + offset) for name, (first, end) in parts.items()}


def _start_of_code(edges: Mapping[str, int], size: int = 0) -> int:
    """Return where the part of the image that is its code, of this size, is mapped. On x86-64 it is
    _text to _etext; on arm64 it ends at __init_begin and starts at _text or, in some versions from
    5.11 on, at _stext (request_standard_resources() in arch/arm64/kernel/setup.c). What is before
    _stext is not mapped there, and others may have its addresses."""
    starts = [edges[name] for name in _STARTS if name in edges]
    ends = {edges[name] for name in _ENDS if name in edges}
    return next((start for start in starts if start + size in ends), min(starts, default=0))


def read_sections(path: Path = Path("/sys/module")) -> dict[str, list[int]]:
    """Return where the sections of each module begin that it keeps."""
    sections: dict[str, list[int]] = {}
    for file in path.glob("*/sections/.*"):
        if not file.name.startswith(".init"):
            with contextlib.suppress(OSError, ValueError):  # unloaded meanwhile
                address = int(file.read_text(), 16)
                if address:  # 0: hidden
                    sections.setdefault(file.parts[-3], []).append(address)
    return sections


def read(
    iomem: str, path: Path = Path("/proc/kallsyms"), modules_path: Path = Path("/sys/module")
) -> Symbols:
    """Read the running kernel's symbols; none if it hides their addresses."""
    listing = path.read_bytes()
    core, modules, _ = kallsyms.parse(listing)
    if not kallsyms.shows_addresses(core):  # or words of 0 would point to functions
        listing, iomem = b"", ""
        core, modules, _ = kallsyms.parse(listing)
    variables, of_modules = kallsyms.parse_data(listing)
    edges = {**variables.find(_EDGES), **core.find(_EDGES)}
    parts = image_parts(iomem, edges)
    start = min((first for first, _ in parts.values()), default=_start_of_code(edges))
    end_of_text = edges.get("_etext", start)
    return Symbols(
        _tables(core, modules),
        image=(start, max((end for _, end in parts.values()), default=start)),
        text=(start, end_of_text),
        constants=(
            end_of_text,
            max((end for name, (_, end) in parts.items() if name in _CONSTANTS), default=start),
        ),
        data=_tables(variables, of_modules),
        parts=tuple(parts.values()),
        sections=read_sections(modules_path),
    )


def _tables(core: SymbolTable, modules: Mapping[str, SymbolTable]) -> Tables:
    tables: dict[str | None, SymbolTable] = {None: core}
    tables.update(modules.items())
    return tables
