# SPDX-License-Identifier: Apache-2.0
"""Kernel memory by cgroup, for a bounded number of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slabmon.kernel.memory import cgroups as module
from slabmon.kernel.memory.cgroups import CHOICE_SECONDS, CgroupMemory


class Hierarchy:
    """A cgroup v2 hierarchy, as files."""

    def __init__(self, folder: Path, controllers: str = "cpu memory") -> None:
        self.root = folder / "cgroup v2"
        self.root.mkdir()
        (self.root / "cgroup.subtree_control").write_text(f"{controllers}\n")
        self.mounts = folder / "mounts"
        name = str(self.root).replace(" ", "\\040")
        self.mounts.write_text(f"proc /proc proc rw 0 0\ncgroup2 {name} cgroup2 rw 0 0\n")

    def put(self, path: str, slab: int, out_of_memory: int = 0) -> None:
        folder = self.root / path.lstrip("/")
        folder.mkdir(exist_ok=True, parents=True)
        (folder / "memory.stat").write_text(
            f"anon 77\nslab_reclaimable 5\nslab_unreclaimable {slab}\nslab {slab + 5}\n"
        )
        (folder / "memory.events").write_text(
            f"low 0\nhigh 0\nmax 9\noom {out_of_memory}\noom_kill 1\n"
        )


@pytest.fixture
def hierarchy(tmp_path: Path) -> Hierarchy:
    return Hierarchy(tmp_path)


def test_unreclaimable_slab_by_path(hierarchy: Hierarchy) -> None:
    hierarchy.put("/system.slice", 7919)
    hierarchy.put("/system.slice/odd\nname", 601)
    memory = CgroupMemory(hierarchy.mounts)
    assert memory.slab_bytes(0) == {"/system.slice": 7919, "/system.slice/odd\\nname": 601}
    assert memory.problem == ""
    hierarchy.put("/system.slice", 8009)
    assert memory.slab_bytes(10)["/system.slice"] == 8009


def test_removed_ones_are_gone_and_new_ones_are_found_in_time(hierarchy: Hierarchy) -> None:
    hierarchy.put("/old", 1)
    memory = CgroupMemory(hierarchy.mounts)
    assert set(memory.slab_bytes(0)) == {"/old"}
    shutil.rmtree(hierarchy.root / "old")
    hierarchy.put("/new", 2)
    assert memory.slab_bytes(10) == {}
    assert memory.slab_bytes(CHOICE_SECONDS) == {"/new": 2}


def test_the_largest_are_watched(hierarchy: Hierarchy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WATCHED", 2)
    monkeypatch.setattr(module, "MOST_COMPARED", 4)
    for size in (300, 100, 200):
        hierarchy.put(f"/c{size}", size)
    memory = CgroupMemory(hierarchy.mounts)
    assert memory.slab_bytes(0) == {"/c300": 300, "/c200": 200}
    assert memory.problem == "of 3 cgroups the 2 with the most are watched"
    hierarchy.put("/c300/deep", 299)
    hierarchy.put("/c300/deeper", 298)
    memory.slab_bytes(CHOICE_SECONDS)
    assert memory.problem == "more than 4 cgroups: those deep below are left out"


def test_running_out_of_memory_counts_at_the_top(hierarchy: Hierarchy) -> None:
    hierarchy.put("/a", 1, out_of_memory=3)
    hierarchy.put("/a/below", 1, out_of_memory=3)
    hierarchy.put("/b", 1, out_of_memory=4)
    memory = CgroupMemory(hierarchy.mounts)
    memory.slab_bytes(0)
    assert memory.out_of_memory() == 0  # what was there before is no news
    hierarchy.put("/a", 1, out_of_memory=5)
    hierarchy.put("/a/below", 1, out_of_memory=5)
    hierarchy.put("/b", 1, out_of_memory=9)
    assert memory.out_of_memory() == 7


def test_all_that_happened_in_a_new_cgroup_is_news(hierarchy: Hierarchy) -> None:
    hierarchy.put("/a", 1, out_of_memory=3)
    memory = CgroupMemory(hierarchy.mounts)
    memory.slab_bytes(0)
    hierarchy.put("/new", 1, out_of_memory=2)
    memory.slab_bytes(CHOICE_SECONDS)
    assert memory.out_of_memory() == 2


def test_without_the_memory_controller_there_is_nothing(tmp_path: Path) -> None:
    memory = CgroupMemory(Hierarchy(tmp_path, controllers="cpu").mounts)
    assert (memory.slab_bytes(0), memory.out_of_memory()) == ({}, 0)
    assert memory.problem == "no cgroup v2 hierarchy has the memory controller"
