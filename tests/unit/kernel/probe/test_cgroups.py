# SPDX-License-Identifier: Apache-2.0
"""cgroup v2 ids and paths, with a folder in the place of the hierarchy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slabmon.base.errors import UsageError
from slabmon.kernel.probe.cgroups import Cgroups


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cgroup"
    (root / "system.slice" / "sshd.service").mkdir(parents=True)
    return root


def open_cgroups(root: Path, kind: str = "cgroup2") -> Cgroups:
    mounts = root.parent / "mounts"
    mounts.write_text(
        f"proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
        f"cgroup2 {root} {kind} rw,nosuid 0 0\n"
    )
    return Cgroups(mounts)


def number(path: Path) -> int:
    return os.stat(path).st_ino


def test_ids_are_named_by_their_path_from_the_root(root: Path) -> None:
    service = root / "system.slice" / "sshd.service"
    ids = [number(root), number(root / "system.slice"), number(service)]
    names = ["/", "/system.slice", "/system.slice/sshd.service"]
    assert open_cgroups(root).names(ids) == dict(zip(ids, names, strict=True))


def test_only_what_is_asked_for_is_named(root: Path) -> None:
    assert open_cgroups(root).names([]) == {}
    assert list(open_cgroups(root).names([number(root)])) == [number(root)]


def test_a_cgroup_made_later_is_found(root: Path) -> None:
    cgroups = open_cgroups(root)
    cgroups.names([number(root)])
    later = root / "later"
    later.mkdir()
    assert cgroups.names([number(later)]) == {number(later): "/later"}


def test_a_cgroup_that_is_gone_keeps_the_name_it_had(root: Path) -> None:
    cgroups = open_cgroups(root)
    slice_ = root / "system.slice" / "sshd.service"
    gone = number(slice_)
    cgroups.names([gone])
    slice_.rmdir()
    assert cgroups.names([gone]) == {gone: "/system.slice/sshd.service"}


def test_a_cgroup_never_seen_is_its_number(root: Path) -> None:
    assert open_cgroups(root).names([12345678901]) == {12345678901: "[12345678901]"}


def test_without_cgroup_v2_all_are_numbers(root: Path) -> None:
    cgroups = open_cgroups(root, "tmpfs")
    assert cgroups.names([1]) == {1: "[1]"}
    with pytest.raises(UsageError, match="cgroup v2"):
        cgroups.find("/system.slice")


@pytest.mark.parametrize("path", ["/system.slice", "system.slice/", "system.slice"])
def test_a_path_gives_the_id(root: Path, path: str) -> None:
    assert open_cgroups(root).find(path) == number(root / "system.slice")


def test_the_root_has_an_id(root: Path) -> None:
    assert open_cgroups(root).find("/") == number(root)


def test_a_path_that_is_not_there_is_a_usage_error(root: Path) -> None:
    with pytest.raises(UsageError, match=r"/absent.*No such file"):
        open_cgroups(root).find("/absent")


def test_names_chosen_by_users_are_made_harmless(root: Path) -> None:
    """Whoever owns a delegated subtree may give its cgroups any name."""
    os.mkdir(os.fsencode(root) + b"/evil\x1b[2J\n\xff")
    evil = number(Path(os.fsdecode(os.fsencode(root) + b"/evil\x1b[2J\n\xff")))
    assert open_cgroups(root).names([evil]) == {evil: "/evil\\x1b[2J\\n\\xff"}


def test_a_mount_point_with_a_blank_is_understood(tmp_path: Path) -> None:
    """/proc/self/mounts writes it as \\040."""
    root = tmp_path / "a b"
    (root / "inner").mkdir(parents=True)
    mounts = tmp_path / "mounts"
    mounts.write_text(f"cgroup2 {str(root).replace(' ', chr(92) + '040')} cgroup2 rw 0 0\n")
    assert Cgroups(mounts).find("/inner") == number(root / "inner")


def test_a_hierarchy_that_is_mounted_later_is_found(root: Path) -> None:
    """A daemon that starts early in boot."""
    cgroups = open_cgroups(root, "tmpfs")
    service = number(root / "system.slice")
    assert cgroups.names([service]) == {service: f"[{service}]"}
    open_cgroups(root)
    assert cgroups.names([service]) == {service: "/system.slice"}
    assert cgroups.find("/system.slice") == service


def test_cgroups_that_are_gone_and_not_asked_for_are_forgotten(root: Path) -> None:
    cgroups = open_cgroups(root)
    ids = []
    for name in range(50):
        (root / f"job{name}").mkdir()
        ids.append(number(root / f"job{name}"))
    cgroups.names(ids)
    # Renamed out of the hierarchy: a number of a removed folder may be used again here.
    for name in range(50):
        (root / f"job{name}").rename(root.parent / f"gone{name}")
    (root / "later").mkdir()
    assert cgroups.names([ids[7], number(root / "later")]) == {
        ids[7]: "/job7",
        number(root / "later"): "/later",
    }
    assert len(cgroups._names) == 5
