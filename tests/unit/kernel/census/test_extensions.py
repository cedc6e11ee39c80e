# SPDX-License-Identifier: Apache-2.0
"""Words that the kernel keeps beside objects, and the call sites they lead to."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
import pytest

from slabmon.census.model import Certainty
from slabmon.kernel.census import extensions, tags
from slabmon.kernel.census.layout import Layout
from tests.support.slab_memory import LAYOUT, OFFSETS, STRUCT_PAGE, VMEMMAP, FakeKernel

ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
IN_OBJECT, NEEDS_OBJCG = 4, 16
BITS = {"slab.exts_in_object": IN_OBJECT, "slab.exts_needs_objcg": NEEDS_OBJCG}


def with_bits(tagged: bool, **offsets: int) -> Layout:
    """A kernel of 7.3: two bits of a slab say where extensions lie and what they are."""
    offsets = {**OFFSETS, **dict.fromkeys(BITS, 44), **offsets}
    return dataclasses.replace(LAYOUT, offsets=offsets, masks=BITS, tagged=tagged)


def set_bits(kernel: FakeKernel, pfn: int, bits: int) -> None:
    kernel.memory.write(VMEMMAP + pfn * STRUCT_PAGE + 44, bytes([bits]))


@pytest.mark.parametrize(
    ("bits", "tagged", "stride"),
    [
        pytest.param(NEEDS_OBJCG, False, 8, id="vector"),
        pytest.param(NEEDS_OBJCG, True, 16, id="vector-with-tags"),
        pytest.param(0, True, 8, id="tags-alone"),
        pytest.param(NEEDS_OBJCG | IN_OBJECT, False, 64, id="in-objects"),
    ],
)
def test_extensions_lie_where_two_bits_of_the_slab_say(
    bits: int, tagged: bool, stride: int
) -> None:
    layout = with_bits(tagged)
    kernel = FakeKernel()
    cache = kernel.cache("any", 64)
    exts = kernel.place(struct.pack("<512Q", *range(8, 8 * 513, 8)))
    set_bits(kernel, kernel.slab(cache, free=[0], exts=exts), bits)
    read = kernel.reading(layout, free=range(3, 64))
    assert read.slabs.charged.tolist() == [bool(bits & NEEDS_OBJCG)]
    found = extensions.count_words(kernel.memory, read, np.array([0]), np.array([0]), ALL)
    assert found == {(8 + at * stride, 0): 1 for at in range(3)}


def test_equal_words_are_counted_by_cache() -> None:
    kernel = FakeKernel()
    first, second = kernel.cache("first", 1024), kernel.cache("second", 1024)
    for cache, words in ((first, [7, 7, 0, 5]), (second, [7, 5, 5, 7]), (first, [5, 7, 7, 7])):
        kernel.slab(cache, free=[0], exts=kernel.place(struct.pack("<4Q", *words)))
    read = kernel.reading(free=[7])
    rows = np.arange(3)
    found = extensions.count_words(kernel.memory, read, rows, np.zeros(3, int), ALL)
    assert found == {(7, 0): 5, (5, 0): 2, (7, 1): 1, (5, 1): 2}
    nothing = np.zeros(0, np.int64)
    assert not extensions.count_words(kernel.memory, read, nothing, nothing, ALL)


def tag(kernel: FakeKernel, line: int, module: str, function: str, file: str) -> int:
    places = [
        kernel.place(string.encode() + bytes(256)) if string else 0
        for string in (module, function, file)
    ]
    return kernel.place(struct.pack("<IIQQQ", 0, line, *places))


def test_objects_are_counted_by_the_line_that_allocated_them() -> None:
    layout = dataclasses.replace(
        LAYOUT, offsets={**OFFSETS, "ext.tag": 8}, sizes={**LAYOUT.sizes, "slabobj_ext": 16}
    )
    kernel = FakeKernel()
    cache = kernel.cache("kmalloc-1k", 1024)
    core = tag(kernel, 123, "", "alloc_thing", "mm/thing.c")
    module = tag(kernel, 45, "driver", "probe", "drivers/some/driver.c")
    words = [0, core, 0, module, 0, module, 0, 1]  # 1: not to be counted
    kernel.slab(cache, free=[0], exts=kernel.place(struct.pack("<8Q", *words)))
    rows = tags.owner_rows(kernel.memory, layout, kernel.reading(layout))
    assert [(row.module, row.signature, row.objects, row.bytes) for row in rows] == [
        ("driver", "drivers/some/driver.c:45 probe", 2, 2048),
        (None, "mm/thing.c:123 alloc_thing", 1, 1024),
    ]
    assert {(row.cache, row.certainty) for row in rows} == {("kmalloc-1k", Certainty.EXACT)}


@pytest.mark.parametrize("bits", [0, NEEDS_OBJCG])
def test_a_tag_stands_behind_the_cgroup_or_alone(bits: int) -> None:
    layout = with_bits(True, **{"ext.tag": 0})
    kernel = FakeKernel()
    site = tag(kernel, 1, "", "f", "a.c")
    words = [4096, site] * 4 if bits else [site] * 8
    exts = kernel.place(struct.pack("<8Q", *words))
    set_bits(kernel, kernel.slab(kernel.cache("any", 1024), free=[0], exts=exts), bits)
    [row] = tags.owner_rows(kernel.memory, layout, kernel.reading(layout))
    assert (row.signature, row.objects) == ("a.c:1 f", 4)
    off = dataclasses.replace(layout, tagged=False)
    assert tags.owner_rows(kernel.memory, off, kernel.reading(off)) == ()
