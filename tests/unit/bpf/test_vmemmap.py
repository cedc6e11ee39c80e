# SPDX-License-Identifier: Apache-2.0
"""From an address to its cache by inline reads of struct page, run in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.settings import Settings
from tests.support.hosts import INLINE_OFFSETS, inline_lookup, without
from tests.support.kallsyms import CORE
from tests.support.native import Native

SETTINGS = Settings(site_slots=256, cache_slots=64, samples=4096, caches=256, stacks=256)
PAGE, PAGE_STRUCT, GIB_OF_PAGES = 4096, 64, (1 << 30 >> 12) * 64
SLAB = 0xF5000000
AT = INLINE_OFFSETS
HEAD, TYPE, CACHE = (
    AT[f"OFF_{name}"] for name in ("PAGE_COMPOUND_HEAD", "PAGE_TYPE", "SLAB_CACHE")
)
STACK_AREA, PAGES = AT["OFF_TASK_STACK_AREA"], AT["OFF_AREA_PAGES"]
POINTERS = {
    name: AT[f"OFF_TASK_{name}"] for name in ("FILES", "FS", "MM", "CRED", "SIGNAL", "SIGHAND")
}


class Memory:
    """A task and the objects it points to, each in a separate page; and their struct pages."""

    def __init__(self, native: Native) -> None:
        self.native = native
        self.task = -(-native.memory(bytes(2 * PAGE)) // PAGE) * PAGE
        room = native.memory(bytes(GIB_OF_PAGES + (1 << 20)))
        # All memory and all struct pages are mapped at multiples of a GiB.
        self.first = room + ((self.task >> 12) * PAGE_STRUCT - room) % GIB_OF_PAGES
        self.base = self.first - (self.task >> 12) * PAGE_STRUCT & (1 << 64) - 1
        area = native.memory(
            bytes(PAGES) + native.memory(self.word(self.first)).to_bytes(8, "little")
        )
        native.rewrite(self.task + STACK_AREA, self.word(area))
        self.caches: dict[int, int] = {}
        self.slab(self.task, b"task_struct")
        for number, (name, offset) in enumerate(POINTERS.items(), 1):
            address = self.task + 2 * number * PAGE
            native.rewrite(self.task + offset, self.word(address))
            self.slab(address, name.lower().encode())
        native.set("task", self.task)

    @staticmethod
    def word(value: int) -> bytes:
        return value.to_bytes(8, "little")

    def page(self, address: int) -> int:
        """Return the struct page of a page."""
        return self.first + ((address >> 12) - (self.task >> 12)) * PAGE_STRUCT

    def slab(self, address: int, name: bytes) -> None:
        """Add a page of a cache, for the kernel and in its struct page."""
        cache = self.caches[address] = self.native.cache(name, 512)
        self.native.slab(address & -PAGE, PAGE, cache)
        self.mark(address, cache)

    def mark(self, address: int, cache: int) -> None:
        self.native.rewrite(self.page(address) + TYPE, SLAB.to_bytes(4, "little"))
        self.native.rewrite(self.page(address) + CACHE, self.word(cache))


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Memory:
    return Memory(Native(make_plan(inline_lookup(), SETTINGS), tmp_path, monkeypatch))


def frees(native: Native) -> dict[int, int]:
    frees = native.reader.frees()
    return dict(zip(frees.cache.tolist(), frees.count.tolist(), strict=True))


def test_struct_pages_are_found_and_asked(memory: Memory) -> None:
    native = memory.native
    native.start()
    assert int(native.reader.control["page_base"]) == memory.base
    unknown, tail = memory.task + 20 * PAGE, memory.task + 21 * PAGE
    cache = native.cache(b"known to its page only", 96)
    memory.mark(unknown, cache)
    native.rewrite(memory.page(tail) + HEAD, memory.word(memory.page(unknown) | 1))
    native.kmalloc(CORE + 0x144, unknown, 70, 96)
    native.kfree(unknown + 96)
    native.kfree(tail + 192)
    native.kfree(memory.task + 30 * PAGE)
    native.kfree(0xFFFF888100000000)  # where there is no struct page to be read
    assert frees(native) == {cache: 2, CONSTANTS["CACHE_LARGE"]: 2}
    slots = native.reader.slots()
    assert slots["cache"][slots["site"] != 0].tolist() == [cache]


def test_one_object_elsewhere_and_the_kernel_is_asked(memory: Memory) -> None:
    native = memory.native
    memory.mark(memory.task + 2 * PAGE, memory.caches[memory.task])
    native.start()
    assert int(native.reader.control["page_base"]) == 0
    native.kfree(memory.task + 2 * PAGE + 64)
    assert frees(native) == {memory.caches[memory.task + 2 * PAGE]: 1}


def test_too_few_objects_prove_nothing(memory: Memory) -> None:
    for offset in list(POINTERS.values())[:3]:
        memory.native.rewrite(memory.task + offset, bytes(8))
    memory.native.start()
    assert int(memory.native.reader.control["page_base"]) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"kfunc_cast": None},
        {"number_type": None},
        {"machine": "aarch64"},
        {"slab_test": None},
        {"slab_test_in_flags": True},
        {"kfunc_get_cache": None},
        *({"offsets": without(inline_lookup().offsets, name)} for name in AT),
    ],
    ids=str,
)
def test_hosts_without_inline_lookup(changes: dict[str, Any]) -> None:
    """From 7.1 on tail pages have no compound_head."""
    host = replace(inline_lookup(), **changes)
    plan = make_plan(host, SETTINGS)
    assert not plan.defines.get("HAVE_PAGE_LOOKUP_INLINE")
    assert "locate_vmemmap" not in plan.run
