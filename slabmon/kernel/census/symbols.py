# SPDX-License-Identifier: Apache-2.0
"""Functions and tables of functions of the kernel and its modules, by the addresses of them that
objects hold."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import I64, U64, Bool
from slabmon.kernel.census.contents import UNIT
from slabmon.kernel.census.evidence import groups
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.symbols import kallsyms
from slabmon.kernel.symbols.table import SymbolTable

_AROUND_MODULES = 64 << 20  # bytes: a module's data is near its text, or that of another
_TABLE_BYTES = 128
_FEW = 200  # variables that a kernel lists in any case: edges of sections
_LARGEST_IMAGE = 1 << 29  # bytes, of the kernel or a module
_PIECE = 1 << 13  # addresses looked at at once
_GAP = 3  # words in a table that are not functions; more end it
_MARKS = ("__start_", "__stop_", "__init")  # edges of sections, not variables
_FREED = ("__init_begin", "__init_end")
_IMAGE = ("Kernel code", "Kernel rodata", "Kernel data", "Kernel bss")


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

    def starts_at(self, addresses: U64) -> Bool:
        """Return whether a symbol starts at each address."""
        if not len(self._starts):
            return np.zeros(len(addresses), bool)
        place = np.minimum(np.searchsorted(self._starts, addresses), len(self._starts) - 1)
        found: Bool = self._starts[place] == addresses
        return found

    def named(self, addresses: U64, is_function: bool) -> dict[int, Symbol]:
        """Return the symbols that start at these addresses."""
        found = {}
        for address in addresses[self.starts_at(addresses)].tolist():
            symbol = self.at(address, is_function)
            if symbol is not None:
                found[address] = symbol
        return found

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
    """Symbols of the running kernel. `image` is where the kernel lies, `text` its functions, both
    [start, end), `freed` what the kernel gave back after it started (free_initmem()). `data` are
    symbols of variables, which a kernel lists only with CONFIG_KALLSYMS_ALL."""

    def __init__(
        self,
        functions: Tables,
        *,
        image: tuple[int, int],
        text: tuple[int, int],
        data: Tables,
        freed: tuple[int, int] = (0, 0),
    ) -> None:
        self._functions = _Index(functions)
        self._data = _Index(data)
        self._data_ranges = {
            module: (table.address(0), table.address(-1) + UNIT)
            for module, table in data.items()
            if len(table) >= (_FEW if module is None else 1)
        }
        self._text = text
        self._freed = freed
        self._ranges = [image]
        edges = [
            table.address(end)
            for module, table in functions.items()
            if module is not None and len(table)
            for end in (0, -1)
        ]
        if edges:
            self._ranges.append((min(edges) - _AROUND_MODULES, max(edges) + _AROUND_MODULES))

    def functions(self, words: U64) -> Bool:
        """Return which words are the address of a function."""
        return self._functions.starts_at(words)

    def function(self, address: int) -> Symbol | None:
        """Return the function that an address is in."""
        return self._functions.at(address, is_function=True)

    def in_image(self, words: U64) -> Bool:
        """Return which words are an address in the kernel's image or near modules."""
        inside = np.zeros(len(words), bool)
        for start, end in self._ranges:
            inside |= (words - np.uint64(start)) < np.uint64(end - start)
        return inside

    def look_up(self, memory: Memory, addresses: U64) -> dict[int, Symbol]:
        """Return what is at those of these distinct addresses where a function or a variable with a
        name starts, or a table of functions, which is named after them."""
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
                (start, end), (text, end_of_text) = self._ranges[0], self._text
                ranges += [(start, text), (end_of_text, end)]
            else:
                ranges.append(edges)
        pages = [
            np.arange(start - start % UNIT, end, UNIT, dtype=np.uint64)
            for start, end in ranges
            if start < end < start + _LARGEST_IMAGE
        ]
        units = np.unique(np.concatenate([np.zeros(0, np.uint64), *pages]))
        freed, end = self._freed
        return units[(units < freed) | (units >= end)]

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
        functions = self._functions.named(np.unique(raw[rows][held[rows]]), is_function=True)
        result = {}
        for row in rows.tolist():
            places = np.flatnonzero(held[row])
            ends = np.flatnonzero(np.diff(places) > _GAP)
            table = places[: ends[0] + 1] if len(ends) else places
            family = [functions[word] for word in raw[row][table].tolist() if word in functions]
            if family:
                result[int(addresses[row])] = Symbol(_family(family), family[0].module, False)
        return result


def _family(functions: Sequence[Symbol]) -> str:
    """Return what the names of functions of one table have in common, such as `ext4_file_*`."""
    names = [function.label for function in functions]
    first = Counter(name.lstrip("_").partition("_")[0] for name in names)
    word = first.most_common(1)[0][0]
    alike = [name for name in names if name.lstrip("_").partition("_")[0] == word]
    if len(alike) == 1:
        return alike[0]
    prefix = os.path.commonprefix(alike)  # noqa: RUF071  # character by character is meant
    return f"{prefix[: prefix.rfind('_') + 1] or prefix}*"


def image_range(iomem: str, start: int) -> tuple[int, int]:
    """Return where the kernel's image is mapped, which starts at `start`, from /proc/iomem."""
    spans = []
    for line in iomem.splitlines():
        span, _, name = line.strip().partition(" : ")
        if name in _IMAGE:
            first, end = (int(number, 16) for number in span.split("-"))
            spans.append((first, end + 1))
    if not spans:
        return start, start
    return start, start + max(end for _, end in spans) - min(first for first, _ in spans)


def read(iomem: str, path: Path = Path("/proc/kallsyms")) -> Symbols:
    """Read the running kernel's symbols."""
    listing = path.read_bytes()
    core, modules, _ = kallsyms.parse(listing)
    variables, of_modules = kallsyms.parse_data(listing)
    edges = core.find(("_text", "_stext", "_etext"))
    start = min((edges[name] for name in ("_text", "_stext") if name in edges), default=0)
    freed = variables.find(_FREED)
    return Symbols(
        _tables(core, modules),
        image=image_range(iomem, start),
        text=(start, edges.get("_etext", start)),
        data=_tables(variables, of_modules),
        freed=(freed.get(_FREED[0], 0), freed.get(_FREED[1], 0)),
    )


def _tables(core: SymbolTable, modules: Mapping[str, SymbolTable]) -> Tables:
    tables: dict[str | None, SymbolTable] = {None: core}
    tables.update(modules.items())
    return tables
