# SPDX-License-Identifier: Apache-2.0
"""Objects by the memory cgroup they are charged to: exact, in cgroups that live and in those that
were removed since, of both versions of cgroups."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from slabmon.census.model import CgroupState
from slabmon.kernel.census.cgroups import REMOVED
from slabmon.model import LARGE_CACHE
from tests.vm.guest import planted as module
from tests.vm.guest.census import Found, Reader, census_reader

COUNT = 8
V2 = Path("/sys/fs/cgroup")
WAIT_SECONDS = 30.0
OWN_CACHE = "slabmon_planted_charged"

pytestmark = pytest.mark.usefixtures("planted")


def wait_until(condition: Callable[[], bool]) -> bool:
    """Return whether it came true; cgroups are removed in the background."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)
    return condition()


def v2_has_memory() -> bool:
    """Return whether the hierarchy of version 2 has the memory controller."""
    return "memory" in (V2 / "cgroup.controllers").read_text().split()


@contextmanager
def hierarchy(version: int) -> Iterator[Path]:
    """A cgroup with a memory controller for its children; all of them are removed."""
    if version == 2:
        assert wait_until(v2_has_memory)
        (V2 / "cgroup.subtree_control").write_text("+memory")
        top = V2
    else:
        top = Path("/run/memory-v1")
        top.mkdir(exist_ok=True)
        if subprocess.run(["mount", "-t", "cgroup", "-o", "memory", "v1", top]).returncode:
            pytest.skip("this kernel has no memory controller of version 1 (CONFIG_MEMCG_V1)")
    parent = top / "slabmon-test"
    parent.mkdir()
    if version == 2:
        (parent / "cgroup.subtree_control").write_text("+memory")
    hierarchical = parent / "memory.use_hierarchy"
    if hierarchical.exists():  # else the root is the parent of all, up to 5.10
        hierarchical.write_text("1")
    try:
        yield parent
    finally:
        module.run("release")
        for path in (*parent.iterdir(), parent):
            with suppress(NotADirectoryError):
                path.rmdir()
        if version == 1:
            Path("/proc/sys/vm/drop_caches").write_text("3")
            subprocess.run(["umount", top], check=True)


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


@pytest.mark.parametrize("version", [1, 2])
def test_objects_of_living_and_removed_cgroups(
    version: int, record_property: Callable[[str, object], None]
) -> None:
    with hierarchy(version) as parent:
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
