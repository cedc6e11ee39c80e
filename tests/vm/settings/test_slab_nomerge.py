# SPDX-License-Identifier: Apache-2.0
"""A kernel that merges no caches: each has one name, and objects of its own."""

from __future__ import annotations

from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from tests.vm.guest import planted as module
from tests.vm.settings.boot import require_argument

require_argument("slab_nomerge")
MERGEABLE = ("planted_cache_merge_a", "planted_cache_merge_b")


def test_caches_that_would_be_one_are_counted_apart(planted: None) -> None:
    with open_tracker(Settings(exact=Filter.parse(f"module={module.NAME}"))) as tracker:
        module.run("caches")
        snapshot = tracker.snapshot()
    sites = module.expected().by_symbol()
    (first,), (second,) = (sites[symbol] for symbol in MERGEABLE)
    assert first.cache != second.cache
    rows = {cache.name: cache for cache in snapshot.caches}
    for site in (first, second):
        row = rows[site.cache]
        assert (row.allocs, row.frees) == (site.allocs, site.frees)
        assert row.live.objects == site.live_objects
        assert row.live.bytes == site.live_bytes
    assert not any(cache.aliases for cache in snapshot.caches)
