# SPDX-License-Identifier: Apache-2.0
"""Kernel text symbols from kallsyms."""

from __future__ import annotations

from pathlib import Path

import pytest

from slabmon.kernel.symbols.kallsyms import UNKNOWN, Location, parse, parse_data, parse_modules
from tests.support.kallsyms import CORE, MODULE, Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.load("card", MODULE, [(0x10, "card_init"), (0x40, "card_probe")])
    host.load("disk", MODULE + 0x4000, [(0, "disk_read")])
    return host


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (CORE + 0x10, Location("__kmalloc_noprof", 0, None)),
        (CORE + 0x11, Location("__kmalloc_noprof", 1, None)),
        (CORE + 0x7F, Location("__kmalloc_noprof", 0x6F, None)),
        (CORE + 0x80, Location("local_helper", 0, None)),
        (CORE + 0x100, Location("weak_function", 0, None)),
        (CORE + 0x1FF, Location("weak_function", 0xFF, None)),
    ],
)
def test_a_core_address_is_named_from_its_symbol_on(
    host: Host, address: int, expected: Location
) -> None:
    assert host.symbols().resolve(address, 0) == expected


def test_of_several_names_of_one_address_the_first_is_taken(host: Host) -> None:
    assert host.symbols().resolve(CORE + 0x90, 0) == Location("local_helper", 0x10, None)
    assert host.symbols().resolve(CORE, 0).symbol == "_stext"


@pytest.mark.parametrize("address", [0, CORE - 1, CORE + 0x200, CORE + 0x1000, 2**64 - 1])
def test_outside_of_text_nothing_is_named(host: Host, address: int) -> None:
    assert host.symbols().resolve(address, 0) == Location(UNKNOWN, 0, None)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (MODULE + 0x10, Location("card_init", 0, "card")),
        (MODULE + 0x3F, Location("card_init", 0x2F, "card")),
        (MODULE + 0x40, Location("card_probe", 0, "card")),
        (MODULE + 0xFFF, Location("card_probe", 0xFBF, "card")),
        (MODULE + 0x4000, Location("disk_read", 0, "disk")),
        (MODULE + 0x4FFF, Location("disk_read", 0xFFF, "disk")),
    ],
)
def test_a_module_address_is_named_with_its_module(
    host: Host, address: int, expected: Location
) -> None:
    assert host.symbols().resolve(address, 0) == expected


@pytest.mark.parametrize("address", [MODULE - 1, MODULE + 0x1000, MODULE + 0x3FFF, MODULE + 0x5000])
def test_between_modules_nothing_is_named(host: Host, address: int) -> None:
    assert host.symbols().resolve(address, 0) == Location(UNKNOWN, 0, None)


def test_before_its_first_symbol_a_module_is_known_but_no_function(host: Host) -> None:
    assert host.symbols().resolve(MODULE + 4, 0) == Location(UNKNOWN, 4, "card")


def test_data_symbols_are_those_of_the_core_only(host: Host) -> None:
    wanted = {"vmemmap_base": CORE + 0x1000, "page_offset_base": CORE + 0x1008}
    assert host.symbols().data == wanted


def test_names_give_addresses_and_ranges_of_core_text(host: Host) -> None:
    symbols = host.symbols()
    assert symbols.address("__kmalloc_noprof") == CORE + 0x10
    assert symbols.range_of("__kmalloc_noprof") == (CORE + 0x10, CORE + 0x80)
    assert symbols.range_of("local_helper") == (CORE + 0x80, CORE + 0x100), "aliases do not end it"
    assert symbols.address("jiffies") is None, "data is not text"
    assert symbols.address("card_probe") is None, "modules are not core"
    assert symbols.address("__kmalloc_nopro") is None
    assert symbols.range_of("absent") is None


def test_the_bounds_of_core_text_and_the_allocators_entry_points_are_found(host: Host) -> None:
    symbols = host.symbols()
    assert symbols.core_text() == (CORE, CORE + 0x200)
    assert symbols.large_entries() == [(CORE + 0x10, CORE + 0x80)]


def test_the_end_of_core_text_may_be_listed_as_data(host: Host, tmp_path: Path) -> None:
    """As arm64 kernels do."""
    path = tmp_path / "kallsyms"
    path.write_text(path.read_text().replace(" T _etext\n", " D _etext\n"))
    symbols = host.symbols()
    assert symbols.core_text() == (CORE, CORE + 0x200)
    assert symbols.resolve(CORE + 0x104, 0) == Location("weak_function", 4, None)


def test_variables_may_be_listed_as_text() -> None:
    """As in 7.3 on x86-64; functions of modules lie behind the core's text as well."""
    lines = (
        (CORE, "T _stext", ""),
        (CORE + 0x200, "T _etext", ""),
        (CORE + 0x1000, "T init_stack", ""),
        (CORE + 0x2000, "t softirq_vec", ""),
        (CORE + 0x3000, "D jiffies", ""),
        (MODULE, "t probe", "\t[card]"),
        (MODULE + 0x100, "b held", "\t[card]"),
    )
    listing = "".join(f"{at:016x} {name}{module}\n" for at, name, module in lines).encode()
    core, modules, _ = parse(listing)
    assert core.addresses().tolist() == [CORE, CORE + 0x200]
    assert modules["card"].addresses().tolist() == [MODULE]
    variables, of_modules = parse_data(listing)
    assert variables.addresses().tolist() == [CORE + 0x1000, CORE + 0x2000, CORE + 0x3000]
    assert of_modules["card"].addresses().tolist() == [MODULE + 0x100]


def test_the_last_symbol_of_all_has_a_range(tmp_path: Path) -> None:
    found = Host(tmp_path).symbols().range_of("_etext")
    assert found is not None
    assert found[0] == CORE + 0x200 < found[1]


def test_functions_have_sizes(host: Host) -> None:
    symbols = host.symbols()
    assert symbols.size(CORE + 0x2C, 0) == 0x70
    assert symbols.size(CORE + 0x100, 0) == 0x100
    assert symbols.size(CORE - 4, 0) == 0
    assert symbols.size(MODULE + 0x4000, 0) > 0


def test_module_ranges_come_from_proc_modules(host: Host) -> None:
    symbols = host.symbols()
    assert symbols.module_ranges("disk") == ((MODULE + 0x4000, MODULE + 0x5000),)
    assert symbols.module_ranges("absent") == ()


def test_readable_symbols_are_told_from_hidden_ones(host: Host) -> None:
    assert host.symbols().readable


def test_hidden_addresses_name_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path, hidden=True)
    host.load("card", MODULE, [(0, "card_probe")])
    symbols = host.symbols()
    assert not symbols.readable
    assert symbols.data == {}
    assert symbols.address("_stext") is None
    assert symbols.range_of("__kmalloc_noprof") is None
    assert symbols.core_text() == (0, 0)
    assert symbols.large_entries() == []
    for address in (CORE + 0x10, MODULE):
        assert symbols.resolve(address, 0) == Location(UNKNOWN, 0, None)


def test_a_kernel_without_modules_has_none(tmp_path: Path) -> None:
    host = Host(tmp_path)
    (tmp_path / "modules").unlink()
    assert host.symbols().resolve(CORE + 0x10, 0).symbol == "__kmalloc_noprof"
    assert host.symbols().resolve(MODULE, 0) == Location(UNKNOWN, 0, None)


def test_trampolines_in_brackets_are_not_modules(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.extra = f"{MODULE:016x} t bpf_trampoline_1\t[bpf]\n"
    host.write()
    assert host.symbols().resolve(MODULE, 0) == Location(UNKNOWN, 0, None)


def test_lines_need_not_be_in_order_of_address(tmp_path: Path) -> None:
    lines = CORE_AND_MODULE.splitlines(keepends=True)
    for text in (CORE_AND_MODULE, "".join(reversed(lines))):
        core, modules, _ = parse(text.encode())
        assert core.at(0x1015) == ("one", 5)
        assert core.at(0x1020) == ("two", 0)
        assert core.at(0xFFF) is None
        assert modules["m"].at(0x5003) == ("three", 3)


CORE_AND_MODULE = (
    "0000000000001010 T one\n0000000000001020 t two\n0000000000005000 t three\t[m]\n"
    "0000000000006000 r page_offset_base_not\n"
)


def test_an_empty_file_has_no_symbols() -> None:
    core, modules, data = parse(b"")
    assert core.at(0x1000) is None
    assert core.find(["x"]) == {}
    assert modules == {}
    assert data == {}


def test_names_that_are_not_utf8_are_no_crash() -> None:
    core, _, _ = parse(b"0000000000001000 T odd\xff\n")
    found = core.at(0x1000)
    assert found is not None
    assert found[0].startswith("odd")


def test_proc_modules_gives_start_and_end() -> None:
    text = (
        "nf_tables 372736 0 - Live 0xffffffffc0a00000\n"
        "virtio_net 98304 1 net_failover,extra, Live 0xffffffffc0800000 (OE)\n"
    )
    assert parse_modules(text) == {
        "nf_tables": (0xFFFFFFFFC0A00000, 0xFFFFFFFFC0A00000 + 372736),
        "virtio_net": (0xFFFFFFFFC0800000, 0xFFFFFFFFC0800000 + 98304),
    }


COPIES = (
    f"{CORE + 0x180:016x} t copy.constprop.0\n"
    f"{CORE + 0x1C0:016x} t copy.constprop.0\n"
    f"{CORE + 0x1C0:016x} t another_name\n"
    f"{CORE + 0x1E0:016x} t copy.constprop.0\n"
)


def test_functions_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Out-of-line copies of inline functions, and static functions of several files."""
    host = Host(tmp_path)
    host.extra = COPIES
    host.write()
    symbols = host.symbols()
    found = [symbols.resolve(CORE + at, 0).symbol for at in (0x184, 0x1C4, 0x1E4)]
    assert found == ["copy.constprop.0", "copy.constprop.0#2", "copy.constprop.0#3"]
    starts = [0x180, 0x1C0, 0x1E0]
    ranges = symbols.function_ranges("copy.constprop.0")
    assert [start - CORE for start, _ in ranges] == starts
    for number, start in enumerate(starts, 1):
        assert symbols.function_range(f"copy.constprop.0#{number}") == ranges[number - 1]
        assert ranges[number - 1][0] == CORE + start
    assert symbols.function_ranges("copy.constprop.0#4") == []
    assert symbols.function_ranges("copy.constprop.0#0") == []
    assert symbols.function_ranges("another_name") == [ranges[1]]


def test_a_rust_function_is_found_by_its_path(tmp_path: Path) -> None:
    host = Host(tmp_path)
    mangled = "_RNvMNtC6binder6threadNtB2_6Thread3new"
    host.extra = f"{CORE + 0x180:016x} t {mangled}\n"
    host.write()
    symbols = host.symbols()
    name = "<binder::thread::Thread>::new"
    assert symbols.resolve(CORE + 0x184, 0) == Location(name, 4, None)
    assert symbols.function_range(name) == symbols.function_range(mangled)
    assert symbols.function_range(name) == (CORE + 0x180, CORE + 0x200)
    assert symbols.function_range("<binder::thread::Thread>::old") is None
