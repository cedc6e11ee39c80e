# SPDX-License-Identifier: Apache-2.0
"""/proc/slabinfo and /sys/kernel/slab."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.kernel.probe import slabinfo
from slabmon.model import Slabinfo

HEAD = (
    "slabinfo - version: 2.1\n"
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables "
    "<limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
)


def row(name: str, active: int = 30, total: int = 64, size: int = 64, slabs: int = 1) -> str:
    return (
        f"{name:<17} {active:6} {total:6} {size:6} {64:4} {2:4} : tunables    0    0    0 "
        f": slabdata {slabs:6} {slabs:6}      0\n"
    )


def test_a_row_gives_objects_and_the_memory_of_its_slabs() -> None:
    found = slabinfo.parse(HEAD + row("kmalloc-64", 5100, 5248, 64, 82) + row("dentry", size=192))
    assert found == {
        "kmalloc-64": Slabinfo(5100, 5248, 64, 82 * 2 * mmap.PAGESIZE),
        "dentry": Slabinfo(30, 64, 192, 2 * mmap.PAGESIZE),
    }


def test_a_name_may_hold_blanks() -> None:
    assert set(slabinfo.parse(HEAD + row("ext4 extent cache"))) == {"ext4 extent cache"}


def test_names_that_occur_twice_are_left_out() -> None:
    text = HEAD + row("mlx5") + row("dentry") + row("mlx5", active=1) + row("mlx5", active=2)
    assert set(slabinfo.parse(text)) == {"dentry"}


def test_statistics_at_the_end_of_a_row_do_not_matter() -> None:
    debug = row("a")[:-1] + " : globalstat 1 2 3 4 : cpustat 5 6 7 8\n"
    assert slabinfo.parse(HEAD + debug) == slabinfo.parse(HEAD + row("a"))


@given(st.text(st.characters(exclude_characters="0123456789")))
def test_other_text_gives_no_rows(text: str) -> None:
    assert slabinfo.parse(text) == {}


def test_a_file_that_cannot_be_read_gives_no_rows(tmp_path: Path) -> None:
    assert slabinfo.read(tmp_path / "absent") == {}


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "slabinfo").write_text(HEAD + row("a"))
    assert set(slabinfo.read(tmp_path / "slabinfo")) == {"a"}


def test_hostile_names_are_those_that_events_show(tmp_path: Path) -> None:
    """The same cache has the same name wherever it comes from: see slabmon.base.escape."""
    (tmp_path / "slabinfo").write_bytes((HEAD + row("\x1b[2Jx")).encode() + row("y").encode())
    assert set(slabinfo.read(tmp_path / "slabinfo")) == {"\\x1b[2Jx", "y"}


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """Three names of one cache, two of another, and a cache of its own."""
    for real in (":0000064", ":a-0000128", "dentry"):
        (tmp_path / real).mkdir()
    for name, target in {
        "kmalloc-64": ":0000064",
        "ext4_io_end": ":0000064",
        "anon": ":0000064",
        "cred_jar": ":a-0000128",
        "pid": ":a-0000128",
    }.items():
        (tmp_path / name).symlink_to(target)
    return tmp_path


def test_names_merged_into_one_cache_are_each_others_aliases(sysfs: Path) -> None:
    assert slabinfo.read_aliases(sysfs) == {
        "kmalloc-64": ("anon", "ext4_io_end"),
        "ext4_io_end": ("anon", "kmalloc-64"),
        "anon": ("ext4_io_end", "kmalloc-64"),
        "cred_jar": ("pid",),
        "pid": ("cred_jar",),
    }


def test_aliases_are_made_harmless(sysfs: Path) -> None:
    (sysfs / "e\x1bvil").symlink_to(":a-0000128")
    assert slabinfo.read_aliases(sysfs)["pid"] == ("cred_jar", "e\\x1bvil")


def test_without_sysfs_there_are_no_aliases(tmp_path: Path) -> None:
    assert slabinfo.read_aliases(tmp_path / "absent") == {}


@pytest.mark.parametrize(
    ("size", "reclaim", "wanted"),
    [
        ("2016\n", "1\n", slabinfo.Nature(2016, True)),
        ("2016\n", "0\n", slabinfo.Nature(2016, False)),
        ("2016\n", None, slabinfo.Nature(2048, False)),
        ("?\n", "1\n", slabinfo.Nature(2048, False)),
    ],
)
def test_a_cache_without_events_is_what_sysfs_says(
    tmp_path: Path, size: str, reclaim: str | None, wanted: slabinfo.Nature
) -> None:
    (tmp_path / "MPTCP").mkdir()
    (tmp_path / "MPTCP" / "object_size").write_text(size)
    if reclaim is not None:
        (tmp_path / "MPTCP" / "reclaim_account").write_text(reclaim)
    caches = slabinfo.SlabDirectory(tmp_path)
    caches.refresh()
    assert caches.nature("MPTCP", 2048) == wanted
    assert caches.nature("absent\0", 64) == slabinfo.Nature(64, False)


def make_cache(root: Path, name: str, size: int, reclaimable: bool = False) -> Path:
    """An entry with an inode number that was never used: kernfs gives no other."""
    entry = root / name
    if entry.exists():
        entry.rename(root.parent / f"used {len(list(root.parent.iterdir()))}")
    entry.mkdir()
    (entry / "object_size").write_text(f"{size}\n")
    (entry / "reclaim_account").write_text(f"{int(reclaimable)}\n")
    return entry


@pytest.fixture
def slab(tmp_path: Path) -> Path:
    (tmp_path / "slab").mkdir()
    return tmp_path / "slab"


def test_a_cache_made_again_by_its_module_has_the_facts_of_now(slab: Path) -> None:
    make_cache(slab, "nvme", 56)
    caches = slabinfo.SlabDirectory(slab)
    caches.refresh()
    assert caches.nature("nvme", 64) == slabinfo.Nature(56, False)
    make_cache(slab, "nvme", 96, True)
    caches.refresh()
    assert caches.nature("nvme", 96) == slabinfo.Nature(96, True)


def test_an_alias_that_comes_later_is_known_and_so_is_the_size_it_brings(slab: Path) -> None:
    """Also where it makes no new cache, and so no new cache is seen in events."""
    root = make_cache(slab, ":0000064", 40)
    (slab / "one").symlink_to(root.name)
    caches = slabinfo.SlabDirectory(slab)
    caches.refresh()
    assert (caches.nature("one", 64), caches.aliases) == ((40, False), {"one": ()})
    (root / "object_size").write_text("56\n")
    (slab / "two").symlink_to(root.name)
    caches.refresh()
    assert caches.nature("one", 64) == (56, False)
    assert caches.aliases == {"one": ("two",), "two": ("one",)}
    (slab / "two").unlink()
    caches.refresh()
    assert caches.aliases == {"one": ()}


def test_a_cache_that_is_gone_is_not_remembered(slab: Path) -> None:
    entry = make_cache(slab, "nvme", 56)
    caches = slabinfo.SlabDirectory(slab)
    caches.refresh()
    assert caches.nature("nvme", 64).object_size == 56
    entry.rename(slab.parent / "gone")
    caches.refresh()
    assert caches.nature("nvme", 128) == slabinfo.Nature(128, False)


def test_files_are_read_once_while_nothing_changes(slab: Path) -> None:
    entry = make_cache(slab, "nvme", 56)
    caches = slabinfo.SlabDirectory(slab)
    caches.refresh()
    assert caches.nature("nvme", 64).object_size == 56
    (entry / "object_size").unlink()
    caches.refresh()
    assert caches.nature("nvme", 64).object_size == 56
