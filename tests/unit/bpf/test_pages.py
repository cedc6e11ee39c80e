# SPDX-License-Identifier: Apache-2.0
"""From an address to its cache by struct page, on kernels without bpf_get_kmem_cache()."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.settings import Settings
from tests.support.hosts import facts
from tests.support.native import OBJECTS, Native

PAGES, PAGE, STRUCT = 16, 4096, 64
HEAD, TYPE, CACHE = 8, 48, 24
SMALL = Settings(site_slots=256, cache_slots=64, samples=4096, caches=256, stacks=256)
# What tells a slab page: byte offset and value of a word, and one of another use.
TESTS = {
    "6.1": ((1 << 9, 1 << 9), True, 0, 1 << 9 | 1 << 16, 1 << 16),
    "6.10": ((0xF0001000, 0xF0000000), False, TYPE, 0xF0000FFF, 0xF0001FFF),
    "6.12": ((0xFF000000, 0xF5000000), False, TYPE, 0xF5000010, 0xF8000010),
}
Open = Callable[[str], tuple[Native, "Memory"]]


class Memory:
    """struct pages of PAGES pages from OBJECTS on."""

    def __init__(self, native: Native, kernel: str) -> None:
        self._pages = bytearray(PAGES * STRUCT)
        self._native = native
        _, _, self._place, self._slab, self._other = TESTS[kernel]

    def _put(self, page: int, offset: int, value: int, width: int) -> None:
        start = page * STRUCT + offset
        self._pages[start : start + width] = value.to_bytes(width, "little")

    def use(self, page: int, cache: int | None) -> None:
        """Make a page one of a slab, or of something else whose words look like a cache."""
        self._put(page, self._place, self._other if cache is None else self._slab, 4)
        self._put(page, CACHE, cache or 0xDEAD, 8)

    def publish(self, tails: dict[int, int]) -> None:
        """Set the addresses of memory and struct pages. Each page of `tails` is part of the slab of
        another."""
        base = self._native.memory(bytes(self._pages))
        for page, head in tails.items():
            self._put(page, HEAD, base + head * STRUCT | 1, 8)
        self._native.rewrite(base, bytes(self._pages))
        control = self._native.reader.control
        control["direct_map_base"], control["vmemmap_base"] = OBJECTS, base


@pytest.fixture
def open_native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    def make(kernel: str) -> tuple[Native, Memory]:
        test, in_flags, *_ = TESTS[kernel]
        places = {"OFF_PAGE_COMPOUND_HEAD": HEAD, "OFF_PAGE_TYPE": TYPE, "OFF_SLAB_CACHE": CACHE}
        offsets = {**facts().offsets, **places}
        host = facts(
            "6.1" if in_flags else "6.12",
            slab_test=test,
            slab_test_in_flags=in_flags,
            offsets=offsets,
        )
        native = Native(make_plan(host, SMALL), tmp_path, monkeypatch)
        native.start()
        return native, Memory(native, kernel)

    return make


@pytest.mark.parametrize("kernel", TESTS)
def test_a_free_is_attributed_by_its_page(open_native: Open, kernel: str) -> None:
    native, memory = open_native(kernel)
    one, two = native.cache(b"kmalloc-96", 96), native.cache(b"kmalloc-8k", 8192)
    memory.use(0, one)
    memory.use(4, two)
    memory.use(8, None)
    memory.publish({5: 4, 6: 4, 7: 4})
    for address in (96, PAGE - 96, 4 * PAGE, 6 * PAGE + 8, 7 * PAGE):
        native.kfree(OBJECTS + address)
    native.kfree(OBJECTS + 8 * PAGE)
    frees = native.reader.frees()
    counts = dict(zip(frees.cache.tolist(), frees.count.tolist(), strict=True))
    assert counts == {one: 2, two: 3, CONSTANTS["CACHE_LARGE"]: 1}
