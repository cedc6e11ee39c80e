# SPDX-License-Identifier: Apache-2.0
"""Struct offsets, prototypes and enums from BTF."""

from __future__ import annotations

from pathlib import Path

import pytest

from slabmon.kernel.probe.btf import Btf, Function, read_vmlinux
from tests.support.btf_blob import VOID, Blob


@pytest.fixture
def btf() -> Btf:
    """struct module as 6.4+ has it, struct page with its unions, and one with bit fields."""
    blob = Blob()
    u32, u64 = blob.integer("unsigned int", 4), blob.integer("unsigned long", 8)
    pointer = blob.pointer(VOID)
    memory = blob.struct("module_memory", 24, [("base", pointer, 0), ("size", u32, 64)])
    memories = blob.array(blob.const(memory), 7)
    name = blob.array(blob.integer("char", 1), 56)
    blob.struct("module", 256, [("name", name, 24 * 8), ("mem", memories, 80 * 8)])
    inner = blob.struct("", 16, [("lru", pointer, 0), ("private", u64, 64)])
    tail = blob.struct("", 8, [("compound_head", u64, 0)])
    union = blob.struct("", 16, [("", inner, 0), ("", tail, 0)], union=True)
    types = blob.struct("", 4, [("page_type", u32, 0)], union=True)
    blob.struct("page", 64, [("flags", u64, 0), ("", union, 64), ("", types, 48 * 8)])
    flagged = [("low", u32, 3 << 24 | 0), ("high", u32, 5 << 24 | 3), ("next", u64, 64)]
    blob.struct("bits", 16, flagged, bitfields=True)
    kobject = blob.struct("kobject", 64, [("name", pointer, 0), ("entry", pointer, 64)])
    blob.struct("device", 128, [("kobj", blob.typedef("kobject_t", kobject), 16 * 8)])
    result = Btf(blob.build())
    result.load(struct=["module", "page", "bits", "device", "absent"])
    return result


@pytest.mark.parametrize(
    ("struct", "path", "offset"),
    [
        ("module", "name", 24),
        ("page", "flags", 0),
        ("page", "private", 16),
        ("page", "compound_head", 8),
        ("page", "page_type", 48),
        ("device", "kobj", 16),
        ("device", "kobj.entry", 24),
        ("module", "mem[0].base", 80),
        ("module", "mem[0].size", 88),
        ("module", "mem[4].base", 80 + 4 * 24),
        ("module", "mem[4].size", 88 + 4 * 24),
    ],
)
def test_a_member_is_found_through_unions_structs_and_arrays(
    btf: Btf, struct: str, path: str, offset: int
) -> None:
    assert btf.offset(struct, path) == offset


def test_bit_fields_give_the_byte_they_begin_in(btf: Btf) -> None:
    assert btf.offset("bits", "low") == 0
    assert btf.offset("bits", "high") == 0
    assert btf.offset("bits", "next") == 8
    assert [btf.bit("bits", name) for name in ("low", "high", "next")] == [0, 3, 64]
    assert btf.bit("page", "private") == 128
    assert btf.bit("bits", "absent") is btf.bit("absent", "low") is None


def test_the_first_name_that_exists_is_taken(btf: Btf) -> None:
    assert btf.offset("module", "core_layout.base", "mem[0].base") == 80
    assert btf.offset("module", "mem[0].base", "name") == 80


@pytest.mark.parametrize(
    ("struct", "path"),
    [("page", "nothing"), ("absent", "x"), ("device", "kobj.nothing"), ("page", "flags.x")],
)
def test_what_is_not_there_is_none(btf: Btf, struct: str, path: str) -> None:
    assert btf.offset(struct, path) is None
    assert btf.member_size(struct, path) is None


def test_sizes_are_those_of_the_type_behind_typedefs(btf: Btf) -> None:
    assert btf.size("page") == 64
    assert btf.size("absent") is None
    assert btf.member_size("page", "page_type") == 4
    assert btf.member_size("page", "flags") == 8
    assert btf.member_size("device", "kobj") == 64


def test_a_struct_is_not_taken_for_a_typedef_or_function_of_the_same_name() -> None:
    blob = Blob()
    u32 = blob.integer("int", 4)
    blob.typedef("thing", u32)
    blob.function("thing", blob.prototype([u32]))
    struct = blob.struct("thing", 4, [("x", u32, 0)])
    btf = Btf(blob.build())
    btf.load(struct=["thing"], func=["thing"])
    assert btf.find("struct", "thing") == struct
    assert btf.find("func", "thing") != struct
    assert btf.find("typedef", "thing") is None, "was not asked for"
    assert btf.size("thing") == 4


def test_a_forward_declaration_does_not_hide_the_struct() -> None:
    blob = Blob()
    blob.add(7, "late", 0, 0)
    u32 = blob.integer("int", 4)
    blob.struct("late", 8, [("x", u32, 32)])
    btf = Btf(blob.build())
    btf.load(struct=["late"])
    assert btf.offset("late", "x") == 4


def test_a_prototype_is_spelled_without_const() -> None:
    blob = Blob()
    long = blob.integer("unsigned long", 8)
    size = blob.typedef("size_t", long)
    gfp = blob.typedef("gfp_t", blob.integer("unsigned int", 4))
    cache = blob.struct("kmem_cache", 8, [("size", long, 0)])
    void = blob.pointer(blob.const(VOID))
    name = blob.pointer(blob.const(blob.integer("char", 1)))
    number = blob.volatile(blob.integer("int", 4))
    enum = blob.enum("mode", {"A": 0})
    parameters = [long, void, blob.pointer(blob.const(cache)), size, gfp, name, number, enum]
    blob.tracepoint("kmalloc", parameters)
    btf = Btf(blob.build())
    btf.load(typedef=["btf_trace_kmalloc"])
    assert btf.prototype("btf_trace_kmalloc") == [
        "void *",
        "unsigned long",
        "void *",
        "struct kmem_cache *",
        "size_t",
        "gfp_t",
        "char *",
        "int",
        "enum mode",
    ]


def test_a_typedef_of_something_else_has_no_prototype() -> None:
    blob = Blob()
    blob.typedef("not_a_function", blob.pointer(blob.integer("int", 4)))
    btf = Btf(blob.build())
    btf.load(typedef=["not_a_function", "absent"])
    assert btf.prototype("not_a_function") is None
    assert btf.prototype("absent") is None


def test_a_function_is_what_it_returns_and_takes() -> None:
    blob = Blob()
    flag = blob.typedef("bool", blob.integer("_Bool", 1))
    cache = blob.struct("kmem_cache", 8, [])
    void = blob.pointer(VOID)
    size = blob.typedef("size_t", blob.integer("unsigned long", 8))
    pointers = [blob.pointer(blob.const(cache)), size, blob.pointer(void)]
    bulk = blob.function("kmem_cache_alloc_bulk", blob.prototype(pointers, flag))
    nothing = blob.function("flush_all", blob.prototype([]))
    number = blob.integer("int", 4)
    signed = blob.function("signed_one", blob.prototype([void], number))
    found = Btf(blob.build())
    found.load(func=["kmem_cache_alloc_bulk", "flush_all", "signed_one", "absent"])
    parameters = ("struct kmem_cache *", "size_t", "void * *")
    assert found.function("kmem_cache_alloc_bulk") == Function(bulk, "bool", parameters)
    assert found.function("flush_all") == Function(nothing, "void", ())
    assert found.function("signed_one") == Function(signed, "int", ("void *",))
    assert found.function("absent") is None


def test_a_function_is_not_taken_for_a_struct_or_typedef_of_its_name() -> None:
    blob = Blob()
    number = blob.integer("int", 4)
    blob.struct("thing", 4, [("x", number, 0)])
    blob.typedef("thing", number)
    found = Btf(blob.build())
    found.load(func=["thing"], struct=["thing"])
    assert found.function("thing") is None


def test_a_function_without_a_prototype_is_none() -> None:
    blob = Blob()
    blob.function("odd", blob.integer("int", 4))
    found = Btf(blob.build())
    found.load(func=["odd"])
    assert found.function("odd") is None


def test_an_enum_is_found_by_any_of_its_enumerators() -> None:
    blob = Blob()
    blob.enum("other", {"PG_other": 3})
    blob.enum("", {"PGTY_buddy": 0xF0, "PGTY_slab": 0xF5, "PG_negative": -2})
    btf = Btf(blob.build())
    wanted = {"PGTY_buddy": 0xF0, "PGTY_slab": 0xF5, "PG_negative": -2}
    assert btf.enum_values("PGTY_slab") == wanted
    assert btf.enum_values("PG_negative") == wanted
    assert btf.enum_values("PG_absent") == {}


def test_a_struct_member_called_like_an_enumerator_is_not_an_enum() -> None:
    blob = Blob()
    blob.struct("s", 4, [("PG_slab", blob.integer("int", 4), 0)])
    assert Btf(blob.build()).enum_values("PG_slab") == {}


def test_variables_of_a_section_are_at_their_offsets() -> None:
    blob = Blob()
    number = blob.integer("unsigned long", 8)
    blob.section(".data..percpu", {"runqueues": (number, 4096), "__preempt_count": (number, 48)})
    blob.section(".rodata", {"current_task": (number, 8)})
    found = Btf(blob.build()).variables(".data..percpu")
    assert found == {"runqueues": 4096, "__preempt_count": 48}


def test_a_kernel_without_btf_has_none(tmp_path: Path) -> None:
    assert read_vmlinux(tmp_path / "vmlinux") is None


def test_btf_is_read_from_its_file(tmp_path: Path) -> None:
    blob = Blob()
    blob.struct("only", 12, [])
    (tmp_path / "vmlinux").write_bytes(blob.build())
    btf = read_vmlinux(tmp_path / "vmlinux")
    assert btf is not None
    btf.load(struct=["only"])
    assert btf.size("only") == 12
