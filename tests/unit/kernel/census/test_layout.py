# SPDX-License-Identifier: Apache-2.0
"""Layouts of kernels of several times, as BTF describes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from slabmon.base.errors import UnsupportedHost
from slabmon.kernel.census import layout as layouts
from slabmon.kernel.census.layout import Layout, PageTest
from slabmon.kernel.probe.btf import Btf
from tests.support.btf_blob import Blob

CACHE = ("name", "size", "object_size", "offset", "oo", "min")


class Kernel:
    """BTF of a kernel, by its structs and their members, 8 bytes each unless said otherwise."""

    def __init__(self) -> None:
        self.blob = Blob()
        self.word = self.blob.integer("unsigned long", 8)
        self.bits = self.blob.integer("unsigned int", 4)
        self.struct("task_struct", "stack_vm_area")
        self.struct("vm_struct", "pages")

    def struct(self, name: str, *members: str, size: int = 64, **at: int) -> int:
        """A struct with members one after another, and others at offsets given in bits."""
        fields = [(member, self.word, 64 * number) for number, member in enumerate(members)]
        fields += [(member, self.bits, bit) for member, bit in at.items()]
        return self.blob.struct(name, size, fields)

    def layout(self) -> Layout:
        return Layout.of(Btf(self.blob.build()))


def old() -> Kernel:
    """5.10: struct page describes slabs."""
    kernel = Kernel()
    members = ("flags", "a", "b", "slab_cache", "freelist", "counters", "c", "obj_cgroups")
    kernel.struct("page", *members, inuse=64 * 5, objects=64 * 5 + 16)
    kernel.struct("kmem_cache", "cpu_slab", *CACHE)
    kernel.struct("kmem_cache_cpu", "freelist", "tid", "page")
    kernel.blob.enum("pageflags", {"PG_locked": 0, "PG_slab": 9})
    return kernel


def new(*tag: str) -> Kernel:
    """7.3: struct slab, page types, sheaves alone, an array of pointers for each node."""
    kernel = Kernel()
    kernel.struct("page", "flags", "a", "b", "c", "d", "e", page_type=384, memcg_data=448)
    members = ("flags", "slab_cache", "a", "b", "freelist")
    bits = {"inuse": 320, "objects": 336, "obj_exts": 448}
    bits |= {"obj_exts_in_object": 352, "obj_exts_needs_objcg": 353}
    kernel.struct("slab", *members, **bits)
    kernel.struct("slabobj_ext", "_objcg", *tag, size=8)
    pair = kernel.struct("kmem_cache_per_node_ptrs", "barn", "node", size=16)
    fields = [(name, kernel.word, 64 * number) for number, name in enumerate(CACHE)]
    pairs = kernel.blob.array(pair, 64)
    kernel.blob.struct("kmem_cache", 2048, [*fields, ("per_node", pairs, 64 * len(fields))])
    kernel.blob.enum("pagetype", {"PGTY_slab": 0xF5, "PGTY_large_kmalloc": 0xF8})
    kernel.blob.enum("", {"CSS_ONLINE": 2, "CSS_DYING": 16})
    return kernel


def test_struct_page_describes_slabs_on_old_kernels() -> None:
    layout = old().layout()
    assert layout["slab.cache"] == 24
    assert (layout["slab.inuse"], layout["slab.objects"]) == (40, 42)
    assert layout["slab.exts"] == 56
    assert layout["cpu_slab.slab"] == 16
    assert layout.slab_page == PageTest(0, 1 << 9, 1 << 9)
    assert layout.large_page is None
    assert not layout.has("cache.cpu_sheaves")


def test_struct_slab_and_page_types_on_new_ones() -> None:
    layout = new().layout()
    assert layout["slab.cache"] == 8
    assert (layout["slab.exts_in_object"], layout["slab.exts_needs_objcg"]) == (44, 44)
    assert layout.masks == {"slab.exts_in_object": 1, "slab.exts_needs_objcg": 2}
    assert layout["slab.exts"] == 56
    assert layout["ext.objcg"] == 0
    assert layout["cache.barn[1]"] - layout["cache.barn[0]"] == 16
    assert layout.slab_page == PageTest(48, 0xFF000000, 0xF5000000)
    assert layout.large_page == PageTest(48, 0xFF000000, 0xF8000000)
    assert (layout.css_online, layout.css_dying) == (2, 16)
    assert "cpu_slab.freelist" not in layout


def test_extensions_are_tagged_where_profiling_is_not_off_for_good(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(layouts, "_ALLOCINFO", tmp_path / "allocinfo")
    kernel = new("_ctref")
    assert not kernel.layout().tagged
    (tmp_path / "allocinfo").touch()
    assert kernel.layout().tagged
    assert not new().layout().tagged


def test_a_kernel_without_btf_or_slabs_is_not_supported() -> None:
    with pytest.raises(UnsupportedHost, match="CONFIG_DEBUG_INFO_BTF"):
        Layout.of(None)
    kernel = Kernel()
    kernel.blob.enum("pagetype", {"PGTY_slab": 0xF5})
    with pytest.raises(UnsupportedHost, match=r"slab\.cache"):
        kernel.layout()


def test_per_cpu_variables_are_listed_where_btf_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(names: tuple[str, ...], end: int) -> dict[str, int]:
        assert "cached_stacks" in names
        assert 0 < end < 1 << 32, "not those of the kernel's image"
        return {"irq_count": 0x10}

    monkeypatch.setattr(layouts, "per_cpu_symbols", listed)
    assert old().layout()["percpu.irq_count"] == 0x10
