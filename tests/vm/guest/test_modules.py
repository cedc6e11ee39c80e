# SPDX-License-Identifier: Apache-2.0
"""Modules that come and go while slabmon tracks: nothing is credited wrongly, nothing grows."""

from __future__ import annotations

import gc
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slabmon.analysis.grouping import group_live
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from slabmon.model import Live, Snapshot
from slabmon.runtime.tuning import limit_malloc_caching
from tests.vm.guest import planted as module
from tests.vm.guest.observed import missed, planted_sites, traced_sites

WARM_UP = 3
OTHER = "loop"  # a stock module that allocates; it gets the addresses of the planted one
# Per reload a few symbols and places stay known: the counters of what was seen there stay too.
GROWTH_KIB = 2048


@pytest.fixture(scope="module")
def tracker() -> Iterator[Tracker]:
    limit_malloc_caching()  # as the daemon does
    with open_tracker(Settings()) as session:
        yield session


def symbols_of(name: str) -> set[str]:
    """Functions of a loaded module."""
    line = re.compile(rf"^\w+ [tTwW] (\S+)\t\[{name}\]$", re.M)
    return set(line.findall(Path("/proc/kallsyms").read_text()))


def text_address(name: str) -> str:
    return Path(f"/sys/module/{name}/sections/.text").read_text()


def anonymous_kib() -> int:
    """Memory of this process that no file or BPF map is behind."""
    gc.collect()
    found = re.search(r"^Anonymous: +(\d+)", Path("/proc/self/smaps_rollup").read_text(), re.M)
    assert found
    return int(found[1])


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def module_allocs(snapshot: Snapshot, name: str) -> int:
    return sum(site.allocs for site in snapshot.sites if site.module == name)


class Reloads:
    """Load the two modules alternately, and sum up the expected counts."""

    def __init__(self) -> None:
        self.expected: Counter[str] = Counter()
        self.functions: dict[str, set[str]] = {module.NAME: set(), OTHER: set()}
        self.addresses: dict[str, set[str]] = {module.NAME: set(), OTHER: set()}

    def _note(self, name: str) -> None:
        self.functions[name] = self.functions[name] or symbols_of(name)  # slow, and they stay
        self.addresses[name].add(text_address(name))

    def round(self, while_loaded: Callable[[], object]) -> None:
        """Each module comes, allocates and goes; `while_loaded` is called with the planted one."""
        module.load()
        self._note(module.NAME)
        module.run("reset")
        module.run("sizes")
        for symbol, sites in traced_sites().items():
            self.expected[symbol] += sum(site.allocs for site in sites)
        while_loaded()
        module.run("release")
        module.unload()
        subprocess.run(["modprobe", OTHER, "max_loop=1"], check=True)
        self._note(OTHER)
        subprocess.run(["rmmod", OTHER], check=True)


@pytest.mark.parametrize(("watched", "rounds"), [(True, 20), (False, 5)])
def test_reloaded_modules_keep_their_own_sites(
    tracker: Tracker, watched: bool, rounds: int, record_property: Callable[[str, object], None]
) -> None:
    """Where symbols are read while a module is there, as the daemon does each
    second, functions are known too; else at least the module is."""
    reloads = Reloads()
    start = tracker.snapshot()
    memory, files = 0, 0
    for number in range(WARM_UP + rounds):
        if number == WARM_UP:
            memory, files = anonymous_kib(), open_files()
        reloads.round(tracker.drain if watched else lambda: None)
        if not watched:
            tracker.drain()
    growth = anonymous_kib() - memory
    end = tracker.snapshot()
    record_property("growth_kib", growth)
    shared = reloads.addresses[module.NAME] & reloads.addresses[OTHER]
    record_property("addresses_shared", len(shared))

    assert end.losses["site_slots_full"] == 0  # of sites in modules that changed, no others
    lost = missed(end) - missed(start)
    for name, functions in reloads.functions.items():
        seen = {site.symbol for site in end.sites if site.module == name}
        named = watched and name == module.NAME
        assert seen <= functions | (set() if named else {"[unknown]"}), name
    assert not [s for s in end.sites if s.module is None and s.symbol == "[unknown]"]
    assert module_allocs(end, OTHER) > module_allocs(start, OTHER)
    short = reloads.expected.total() - (
        module_allocs(end, module.NAME) - module_allocs(start, module.NAME)
    )
    # Loading allocates a few objects that the module publishes as lasting, not as a scenario's.
    assert short <= lost
    if watched:
        before, after = planted_sites(start), planted_sites(end)
        for symbol, allocs in reloads.expected.items():
            grown = after[symbol]["allocs"] - before.get(symbol, Counter())["allocs"]
            assert 0 <= allocs - grown <= lost, symbol
    assert open_files() == files
    assert growth <= GROWTH_KIB


def test_what_a_module_allocates_for_its_life_is_live_until_it_goes() -> None:
    """Its character device's memory, from the first instruction of its init on."""
    lifetime = ("planted_chardev_alloc", "kmalloc-2k", 5)
    with open_tracker(Settings(exact=Filter.parse(f"cache={lifetime[1]}"))) as tracker:

        def held() -> set[tuple[str, str, int]]:
            groups = group_live(tracker.snapshot(), ("module", "site", "cache"))
            mine = [group for group in groups if group.labels[0] == module.NAME]
            return {
                (group.labels[1].partition("+")[0], group.labels[2], group.live.objects)
                for group in mine
                if group.live != Live()
            }

        module.load()
        published = module.expected().by_symbol()[lifetime[0]]
        assert [(site.symbol, site.cache, site.live_objects) for site in published] == [lifetime]
        assert held() == {lifetime}
        module.run("churn")
        assert held() == {lifetime}
        module.unload()
        assert held() == set()


def test_a_cache_has_the_object_size_that_the_module_gave_it_last(tracker: Tracker) -> None:
    """SLUB removes the cache with the module, and the name is used again."""
    for size in (328, 1000, 328):
        module.load(f"ctor_size={size}")
        try:
            module.run("caches")
            cache = {each.name: each for each in tracker.snapshot().caches}["slabmon_planted_ctor"]
            module.run("release")
        finally:
            module.unload()
        assert cache.object_size == size
        assert cache.slabinfo
        assert cache.slabinfo.object_size >= size
