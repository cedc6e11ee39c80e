# SPDX-License-Identifier: Apache-2.0
"""Objects by the memory cgroup they are charged to, of both versions of cgroups: in a census exact,
in cgroups that live and in those that were removed since; and live ones, as they are allocated."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slabmon.analysis.grouping import group_live
from slabmon.base.workloads import REMOVED
from slabmon.census.model import CgroupState
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.model import LARGE_CACHE, State
from tests.live.cgroups import watched
from tests.vm.guest import planted as module
from tests.vm.guest.census import Found, Reader, census_reader
from tests.vm.guest.hierarchies import hierarchy

COUNT = 8
WAIT_SECONDS = 30.0
OWN_CACHE = "slabmon_planted_charged"

FILES = 211  # prime
EVENTS = ("inotify_handle", "inotify_one_event")  # functions that allocate them

pytestmark = pytest.mark.usefixtures("planted")


@pytest.fixture(scope="module", params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    """Of cgroups. All tests of one come before those of the other: a removed cgroup keeps the
    memory controller in its hierarchy for a while."""
    number: int = request.param
    return number


@contextmanager
def released() -> Iterator[None]:
    """Objects that the module holds are released afterwards."""
    try:
        yield
    finally:
        module.run("release")


def plant(cgroup: Path) -> Counter[str]:
    """Have the module allocate for this cgroup; return the objects by cache."""
    before = live_by_cache()
    child = os.fork()
    if not child:
        try:
            (cgroup / "cgroup.procs").write_text("0")
            module.run("charged")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return live_by_cache() - before


def live_by_cache() -> Counter[str]:
    """Objects that the module holds."""
    counts: Counter[str] = Counter()
    for site in module.expected().sites:
        counts[site.cache] += site.live_objects
    return counts


def test_objects_of_living_and_removed_cgroups(
    version: int, record_property: Callable[[str, object], None]
) -> None:
    with hierarchy(version) as parent, released():
        cgroups = [parent / f"child{number}" for number in range(COUNT)]
        for path in cgroups:
            path.mkdir()
        planted = {f"/{parent.name}/{path.name}": plant(path) for path in cgroups}
        assert all(counts[OWN_CACHE] for counts in planted.values())
        for path in cgroups[::2]:
            path.rmdir()
        removed = {f"/{parent.name}/{path.name}" for path in cgroups[::2]}
        with census_reader() as reader:
            found = after_removal(reader, len(removed))
            check(reader, found, planted, removed)
    record_property("objects", sum(counts.total() for counts in planted.values()))


def after_removal(reader: Reader, removed: int) -> Found:
    """Read until the kernel has handed over what so many removed cgroups held."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        found = reader.read(only_caches=False)
        dying = [row for row in found.cgroups if row.state is CgroupState.DYING]
        if sum(row.cgroups for row in dying) >= removed or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def check(
    reader: Reader, found: Found, planted: dict[str, Counter[str]], removed: set[str]
) -> None:
    """The rows of these cgroups are exact, objects and bytes by cache, and their states."""
    caches = set().union(*planted.values())
    if reader.layout.large_page is None:
        caches.discard(LARGE_CACHE)
    rows = {(row.cgroup, row.state): row for row in found.cgroups}
    expected: dict[tuple[str, CgroupState], Counter[str]] = {}
    children: Counter[tuple[str, CgroupState]] = Counter()
    for path, counts in planted.items():
        key = (path, CgroupState.ALIVE)
        if path in removed:
            # Before 6.7 nothing says which child of its parent held an object.
            known = (path, CgroupState.DYING) in rows
            key = (path if known else f"{path.rpartition('/')[0]}/{REMOVED}", CgroupState.DYING)
        expected.setdefault(key, Counter()).update(counts)
        children[key] += 1
    for key, counts in expected.items():
        row = rows[key]
        assert {name: row.objects_by_cache.get(name, 0) for name in caches} == {
            name: counts[name] for name in caches
        }, key
        for name in caches - {LARGE_CACHE}:
            assert row.by_cache[name] == counts[name] * found.caches[name].size
        assert row.cgroups == children[key]
    # What the kernel keeps of a child is charged to its parent.
    parent = {(path.rpartition("/")[0], CgroupState.ALIVE) for path in planted}
    assert {key for key in rows if "slabmon-test" in key[0]} - parent == set(expected)


def test_objects_are_of_the_cgroup_that_is_charged(version: int, tmp_path: Path) -> None:
    """Not of the task's; a filter follows it, below the cgroup that it names."""
    with hierarchy(version) as parent:
        watcher, maker = parent / "watcher", parent / "maker"
        watcher.mkdir()
        maker.mkdir()
        settings = Settings(exact=Filter(cgroup=f"/{parent.name}"))
        with open_tracker(settings) as tracker, watched(watcher, maker, tmp_path, FILES):
            snapshot = tracker.snapshot(details=True)
    feature = tracker.features["cgroups"]
    assert (feature.state, "v1" in feature.reason) == (State.ON, version == 1)
    found: Counter[str] = Counter()
    for group in group_live(snapshot, ("site", "cgroup")):
        if group.labels[0].startswith(EVENTS):
            found[group.labels[1]] += group.live.objects
    assert found == {f"/{parent.name}/watcher": FILES}
    assert f"/{parent.name}/maker" in snapshot.tracked.cgroups.values()
