# SPDX-License-Identifier: Apache-2.0
"""A census counts the objects that the planted module holds, one by one, and agrees with the
kernel's own totals."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slabmon.kernel.census import memory_map
from slabmon.kernel.probe import slabinfo
from tests.vm.guest import planted as module
from tests.vm.guest.census import Found, Reader, census_reader, free_by_slab
from tests.vm.guest.test_planted import run_if_there

CTOR_CACHE, MERGED_CACHE = "slabmon_planted_ctor", "slabmon_planted_a"
OWN_CACHES = (CTOR_CACHE, MERGED_CACHE, "slabmon_planted_charged")
TRIES, HASTY_TRIES = 12, 4
GRACE_SECONDS = 30.0
QUICK_GRACE_SECONDS = 8.0  # kfree_rcu() collects objects for up to 5 s

CPUS_OF_NODES = sorted(Path("/sys/devices/system/node").glob("node*/cpulist"))

pytestmark = pytest.mark.usefixtures("planted")


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with census_reader() as loaded:
        yield loaded


def live_by_cache() -> Counter[str]:
    """Objects that the module holds, as it publishes."""
    counts: Counter[str] = Counter()
    for site in module.expected().sites:
        counts[site.cache] += site.live_objects
    return counts


def own(found: Found) -> dict[str, int]:
    """Objects in use of the caches that the module alone uses."""
    return {name: found.in_use(name) for name in OWN_CACHES}


def on_each_cpu(scenario: str) -> None:
    """Run a scenario on one CPU after another, so that each has free objects of its own."""
    allowed = os.sched_getaffinity(0)
    try:
        for cpu in allowed:
            os.sched_setaffinity(0, {cpu})
            run_if_there(scenario)
    finally:
        os.sched_setaffinity(0, allowed)


def wait_for_frees(reader: Reader, expected: dict[str, int]) -> dict[str, int]:
    """Return the objects in use of the module's caches, as expected or GRACE_SECONDS later."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (seen := own(reader.read())) != expected and time.monotonic() < deadline:
        time.sleep(1)
    return seen


@pytest.mark.parametrize("scenario", ["caches", "cache_kfree", "bulk", "charged", "cache_rcu"])
def test_objects_of_own_caches_are_exact(
    reader: Reader, scenario: str, record_property: Callable[[str, object], None]
) -> None:
    """Also where a CPU's slab or sheaf, or a barn, holds objects that the slab counts as in use;
    those of kfree_rcu() after the grace period."""
    on_each_cpu(scenario)
    live = live_by_cache()
    expected = {name: live[name] for name in OWN_CACHES}
    assert sum(expected.values())
    if scenario == "cache_rcu":
        assert wait_for_frees(reader, expected) == expected
    found = reader.read()
    assert own(found) == expected
    upper = slabinfo.read()
    for name in OWN_CACHES:
        if name in found.caches and name in upper:
            assert found.caches[name].objects == upper[name].total_objects
            assert found.in_use(name) <= upper[name].active_objects
    record_property("objects", sum(expected.values()))
    module.run("release")
    none = dict.fromkeys(OWN_CACHES, 0)
    assert wait_for_frees(reader, none) == none


@pytest.mark.parametrize("scenario", ["sizes", "gfp", "dynamic", "krealloc", "rcu"])
def test_kmalloc_rises_by_what_is_planted(
    reader: Reader, scenario: str, record_property: Callable[[str, object], None]
) -> None:
    """Others use the same caches: each must be undisturbed in one of several tries. Each file of
    sysfs that a reading opens leaves an object to kfree_rcu() (5.19+)."""
    wrong: dict[str, list[int]] = {}
    names: set[str] = set()
    for number in range(TRIES):
        grace = QUICK_GRACE_SECONDS if scenario == "rcu" or number >= HASTY_TRIES else 0
        module.run("release")
        time.sleep(grace)
        held, before = live_by_cache(), reader.read()
        module.run(scenario)
        time.sleep(grace)
        live, after = live_by_cache() - held, reader.read()
        live.pop("kmalloc-large", None)
        names = names or set(live)
        for name in list(names):
            rise = after.in_use(name) - before.in_use(name)
            if rise == live[name]:
                names.discard(name)
            else:
                wrong.setdefault(name, []).append(rise - live[name])
        if not names:
            break
    record_property("disturbed", len(wrong))
    assert not names, {name: wrong[name] for name in names}


def test_page_backed_kmalloc_by_order(reader: Reader) -> None:
    """Three and five pages take blocks of four and eight."""
    if reader.layout.large_page is None:
        module.run("large")
        assert reader.read().blocks == ()  # `census` says so
        return
    for _ in range(TRIES):
        module.run("release")
        before = {block.order: block.objects for block in reader.read().blocks}
        module.run("large")
        after = {block.order: block.objects for block in reader.read().blocks}
        rise = {order: count - before.get(order, 0) for order, count in after.items()}
        if rise == {order: {2: 8, 3: 8}.get(order, 0) for order in after}:
            return
    raise AssertionError(rise)


def test_quiet_caches_equal_slabinfo(
    reader: Reader, record_property: Callable[[str, object], None]
) -> None:
    """Slabs, objects, and objects in use, of which slabinfo has an upper bound."""
    for _ in range(TRIES):
        before, found, after = slabinfo.read(), reader.read(), slabinfo.read()
        quiet = [name for name in before if before[name] == after.get(name)]
        wrong = {}
        for name in quiet:
            row, theirs = found.caches.get(name), before[name]
            mine = (row.objects, row.slab_bytes) if row else (0, 0)
            in_use = row.in_use if row else 0
            if mine != (theirs.total_objects, theirs.slab_bytes) or in_use > theirs.active_objects:
                wrong[name] = (mine, in_use, theirs)
        if not wrong:
            break
    record_property("quiet_caches", len(quiet))
    assert len(quiet) > 40
    assert not wrong


def test_free_objects_agree_with_counters(reader: Reader) -> None:
    """Two ways to the same: lists of free objects, followed, and what slabs count."""
    on_each_cpu("caches")
    read = reader.read().read
    differing = (free_by_slab(read) != read.slabs.objects - read.in_use).sum()
    assert differing <= read.changed + 8  # a CPU's own list changes while it is read, too


def test_nodes_add_up(reader: Reader) -> None:
    """Each cache's slabs lie on the nodes there are."""
    found = reader.read()
    nodes = set(memory_map.online_nodes())
    for row in found.caches.values():
        assert {part.node for part in row.nodes} <= nodes
        assert sum(part.objects for part in row.nodes) == row.objects
        assert sum(part.in_use for part in row.nodes) == row.in_use


@pytest.mark.skipif(len(CPUS_OF_NODES) == 1, reason="one NUMA node; see --nodes")
def test_slabs_count_on_the_node_they_are_on(reader: Reader) -> None:
    """Where the CPU is whose task allocates."""
    allowed = os.sched_getaffinity(0)
    expected: dict[int, int] = {}
    try:
        for number, path in enumerate(CPUS_OF_NODES):
            os.sched_setaffinity(0, memory_map.parse_list(path.read_text()))
            for _ in range(number + 1):
                before = live_by_cache()[CTOR_CACHE]
                module.run("caches")
                expected[number] = expected.get(number, 0) + live_by_cache()[CTOR_CACHE] - before
    finally:
        os.sched_setaffinity(0, allowed)
    row = reader.read().caches[CTOR_CACHE]
    assert {each.node: each.in_use for each in row.nodes} == expected
    assert sum(each.slabs for each in row.nodes) == row.slabs
    assert sum(each.slab_bytes for each in row.nodes) == row.slab_bytes
    module.run("release")


@pytest.mark.parametrize("address", [0, 1, 0x0F0F918BF4CB7D5E, 0xFF0F918BF4CB7D5E])
def test_what_is_no_kernel_address_is_not_read(reader: Reader, address: int) -> None:
    """A program that did would make 5.10 warn of the last one."""
    assert reader.kernel.word(address) == 0
    assert reader.kernel.block(address, 8) is None
