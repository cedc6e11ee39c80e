# SPDX-License-Identifier: Apache-2.0
"""Tables of functions, named after what they hold where the kernel lists no variables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slabmon.base.arrays import U8, U64
from slabmon.kernel.census.contents import UNIT
from slabmon.kernel.census.symbols import Symbol, Symbols, image_parts, read
from slabmon.kernel.symbols.kallsyms import parse
from tests.support.slab_memory import SparseMemory

TEXT = 0xFFFFFFFF81000000
RODATA = 0xFFFFFFFF82000000
NAMES = (
    "noop_llseek",
    "timerfd_poll",
    "timerfd_release",
    "timerfd_show",
    "ext4_file_open",
    "ext4_file_read_iter",
    "generic_splice",
    "_lone",
)
AT = {name: TEXT + 64 * number for number, name in enumerate(NAMES)}
END_OF_TEXT = TEXT + 0x1000
TABLES: dict[str, tuple[str | None, ...]] = {
    # Name: the words that a table of functions begins with; None is no function.
    "timerfd_*": ("noop_llseek", None, "timerfd_poll", "timerfd_release", None, "timerfd_show"),
    "ext4_file_*": (None, "noop_llseek", "ext4_file_open", "ext4_file_read_iter", "generic_splice"),
    "_lone": ("noop_llseek", "generic_splice", "_lone"),
    "noop_llseek": ("noop_llseek", None, None, None, None, "timerfd_poll"),  # another table follows
}
COMMON = 40  # uses of what many tables hold


@pytest.fixture
def symbols() -> Symbols:
    listing = "".join(f"{address:016x} t {name}\n" for name, address in AT.items())
    core, _, _ = parse(listing.encode())
    return Symbols(
        {None: core},
        image=(TEXT, RODATA + 0x10000),
        text=(TEXT, END_OF_TEXT),
        data={},
        constants=(RODATA, RODATA + 0x10000),
    )


def table(number: int) -> int:
    return RODATA + 256 * (number + 1)


def fill(memory: SparseMemory) -> None:
    for number, words in enumerate(TABLES.values()):
        for place, word in enumerate(words):
            memory.write_word(table(number) + 8 * place, AT[word] if word else 0)
    for place in range(COMMON):
        for column, name in enumerate(("noop_llseek", "generic_splice")):
            memory.write_word(RODATA + 0x8000 + 16 * place + 8 * column, AT[name])


def test_tables_are_named_after_the_functions_that_few_tables_hold(symbols: Symbols) -> None:
    memory = SparseMemory()
    fill(memory)
    addresses = np.array([table(number) for number in range(len(TABLES))], np.uint64)
    found = symbols.look_up(memory, addresses)
    assert [found[address].label for address in addresses.tolist()] == list(TABLES)
    assert not any(symbol.function for symbol in found.values())


def test_a_function_is_named_itself(symbols: Symbols) -> None:
    addresses = np.array([AT["timerfd_poll"], AT["timerfd_poll"] + 8], np.uint64)
    found = symbols.look_up(SparseMemory(), addresses)
    assert found == {AT["timerfd_poll"]: Symbol("timerfd_poll", None, function=True)}


X86 = """
100000-8ffffff : System RAM
  1000000-1fff123 : Kernel code
  2000000-27fffff : Kernel rodata
  2800000-2bfffff : Kernel data
  3000000-30fffff : Kernel bss
"""
ARM64 = "  1000000-1ffffff : Kernel code\n  2800000-2bfffff : Kernel data\n"
HEAD = 0x10000  # on arm64 _stext is behind the image's head


def test_where_the_parts_of_the_image_lie() -> None:
    edges = {"_text": TEXT, "_stext": TEXT, "_etext": TEXT + 0xFFF124, "__init_begin": RODATA}
    assert image_parts(X86, edges) == {
        "Kernel code": (TEXT, TEXT + 0xFFF124),
        "Kernel rodata": (TEXT + 0x1000000, TEXT + 0x1800000),
        "Kernel data": (TEXT + 0x1800000, TEXT + 0x1C00000),
        "Kernel bss": (TEXT + 0x2000000, TEXT + 0x2100000),
    }
    assert image_parts("100000-8ffffff : System RAM\n", edges) == {}


@pytest.mark.parametrize("first", ["_text", "_stext"])
def test_the_part_of_the_code_starts_at_either_of_two_symbols_on_arm64(first: str) -> None:
    edges = {"_text": TEXT, "_stext": TEXT + HEAD, "_etext": TEXT + 0x800000}
    code = edges[first]
    edges["__init_begin"] = code + 0x1000000
    assert image_parts(ARM64, edges) == {
        "Kernel code": (code, code + 0x1000000),
        "Kernel data": (code + 0x1800000, code + 0x1C00000),
    }


@pytest.mark.parametrize(
    ("iomem", "edges", "parts"),
    [
        (
            X86,
            (0, 0, 0xFFF124, 0x1F00000),
            [(0x1000000, 0x1C00000), (0x2000000, 0x2100000)],
        ),
        (
            ARM64,
            (0, HEAD, HEAD + 0x1000, HEAD + 0x1000000),
            [(HEAD + 0x1000, HEAD + 0x1000000), (HEAD + 0x1800000, HEAD + 0x1C00000)],
        ),
    ],
    ids=["x86", "arm64"],
)
def test_variables_are_looked_for_in_parts_of_the_image_alone(
    tmp_path: Path, iomem: str, edges: tuple[int, ...], parts: list[tuple[int, int]]
) -> None:
    """What is between them holds what others allocated since."""
    names = ("T _text", "T _stext", "T _etext", "D __init_begin")
    symbols = list(zip(edges, names, strict=True))
    symbols += [(0x1800000 + 64 * number, f"D variable{number}") for number in range(300)]
    path = tmp_path / "kallsyms"
    path.write_text("".join(f"{TEXT + at:016x} {name}\n" for at, name in symbols))
    units = {TEXT + at for start, end in parts for at in range(start, end, UNIT)}
    assert set(read(iomem, path).data_units().tolist()) == units


@pytest.mark.parametrize(("end", "first"), [(0x1000000, "_text"), (HEAD + 0x1000000, "_stext")])
def test_nothing_is_read_where_the_image_of_arm64_is_not_mapped(
    tmp_path: Path, end: int, first: str
) -> None:
    """Devices may be mapped there."""
    path = tmp_path / "kallsyms"
    symbols = {"_text": 0, "_stext": HEAD, "_etext": 0x800000, "__init_begin": end}
    path.write_text("".join(f"{TEXT + at:016x} T {name}\n" for name, at in symbols.items()))
    image = read(ARM64, path, tmp_path).in_image(np.array([TEXT, TEXT + HEAD], np.uint64))
    assert image.tolist() == [first == "_text", True]


def test_nothing_is_read_around_modules(tmp_path: Path) -> None:
    """On arm64 devices may be mapped there (ioremap()), and reading them has effects."""
    module = TEXT + 0x4000_0000
    path, modules = tmp_path / "kallsyms", tmp_path / "module"
    path.write_text(
        f"{TEXT:016x} T _text\n{TEXT + 0x1000:016x} T _etext\n"
        f"{module + 0x123:016x} t probe\t[card]\n{module + 0x3456:016x} d ops\t[card]\n"
        f"{module + 0x100010:016x} t open\t[disk]\n"
    )
    sections = modules / "disk" / "sections"
    sections.mkdir(parents=True)
    for name, at in ((".text", 0x100000), (".data", 0x105000), (".init.text", 0x900000)):
        (sections / name).write_text(f"0x{module + at:x}\n")
    (sections / ".hidden").write_text("0x0\n")
    symbols = read(X86, path, modules)
    edges = [
        (module + 0x123, module + 0x4000),
        (module + 0x100000, module + 0x106000),
        (TEXT, TEXT + 0x2100000),
    ]
    words = [word for edge in edges for word in edge] + [edge[0] - 1 for edge in edges]
    assert symbols.in_image(np.array(words, np.uint64)).tolist() == [True, False] * 3 + [False] * 3


class Watched(SparseMemory):
    """Remembers the addresses that were read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_at: set[int] = set()

    def gather(self, addresses: U64, size: int) -> U8:
        self.read_at |= set(addresses.tolist())
        return super().gather(addresses, size)


def test_no_table_is_looked_for_elsewhere(symbols: Symbols) -> None:
    memory = Watched()
    fill(memory)
    elsewhere = 0xFFFF_8000_800F_4FF0
    symbols.look_up(memory, np.array([table(0), elsewhere], np.uint64))
    assert table(0) in memory.read_at
    assert elsewhere not in memory.read_at


def test_hidden_addresses_are_those_of_nothing(tmp_path: Path) -> None:
    """With kernel.kptr_restrict 2 all are shown as 0, which most words of objects are too."""
    path = tmp_path / "kallsyms"
    path.write_text(
        f"{0:016x} T _text\n{0:016x} T _stext\n{0:016x} T _etext\n{0:016x} t probe\t[card]\n"
        + "".join(f"{0:016x} D variable{number}\n" for number in range(300))
    )
    symbols = read(X86, path, tmp_path)
    words = np.array([0, 8, 0x1000, TEXT], np.uint64)
    assert not symbols.known
    assert not symbols.functions(words).any()
    assert not symbols.in_image(words).any()
    assert not len(symbols.data_units())
    assert symbols.look_up(SparseMemory(), words) == {}
    assert symbols.function(TEXT) is None
    assert list(symbols.variables(words)) == []
