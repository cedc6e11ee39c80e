# SPDX-License-Identifier: Apache-2.0
"""Ids and paths of cgroups, with a folder in the place of the hierarchy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slabmon.base.errors import UsageError
from slabmon.kernel.probe import cgroups as cgroups_module
from slabmon.kernel.probe.cgroups import Cgroups, charges_v1


@pytest.fixture(autouse=True)
def handles(monkeypatch: pytest.MonkeyPatch) -> None:
    """File handles of cgroups are not those of the folders here."""
    monkeypatch.setattr(cgroups_module, "_open_by_id", lambda mount, wanted: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cgroup"
    (root / "system.slice" / "sshd.service").mkdir(parents=True)
    return root


def open_cgroups(
    root: Path, kind: str = "cgroup2", clock: Callable[[], float] = time.monotonic
) -> Cgroups:
    mounts = root.parent / "mounts"
    mounts.write_text(
        f"proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
        f"cgroup2 {root} {kind} rw,nosuid 0 0\n"
    )
    return Cgroups(mounts, clock)


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
    now = [0.0]
    cgroups = open_cgroups(root, clock=lambda: now[0])
    cgroups.names([number(root)])
    later = root / "later"
    later.mkdir()
    now[0] += cgroups_module.WALK_SECONDS
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


V1 = "12:cpu,cpuacct:/docker\n7:memory:/docker/1\n1:name=systemd:/\n0::/\n"
V2 = "0::/system.slice/slabmon.service\n"
HYBRID = "12:pids:/\n1:name=systemd:/memory\n0::/memory\n"


@pytest.mark.parametrize(
    ("text", "charges"),
    [(V1, True), ("4:hugetlb,memory:/\n0::/\n", True), (V2, False), (HYBRID, False), ("", False)],
)
def test_the_hierarchy_with_the_memory_controller_charges(
    tmp_path: Path, text: str, charges: bool
) -> None:
    (tmp_path / "cgroup").write_text(text)
    assert charges_v1(tmp_path / "cgroup") == charges
    assert not charges_v1(tmp_path / "absent")


def memory_v1(root: Path) -> Cgroups:
    """Cgroups of a host that has both versions, and charges memory by v1."""
    unified = root.parent / "unified"
    unified.mkdir(exist_ok=True)
    mounts = root.parent / "mounts"
    mounts.write_text(
        f"cgroup2 {unified} cgroup2 rw 0 0\n"
        "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu,memory_of_another_name 0 0\n"
        f"cgroup {root} cgroup rw,nosuid,hugetlb,memory 0 0\n"
    )
    return Cgroups(mounts, v1=True)


def test_where_v1_charges_memory_its_cgroups_are_named(root: Path) -> None:
    cgroups = memory_v1(root)
    service = number(root / "system.slice")
    assert cgroups.find("/system.slice") == service
    assert cgroups.names([service]) == {service: "/system.slice"}
    events = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"
    (root / "system.slice/memory.oom_control").write_text(events)
    assert cgroups.oom_kills(["/system.slice/sshd.service"]) == {"/system.slice": 7}


def test_a_cgroup_that_is_not_found_is_told_with_its_hierarchy(root: Path) -> None:
    with pytest.raises(UsageError, match=r"/trial: No such file.* in the hierarchy of cgroup v2"):
        open_cgroups(root).find("/trial")
    with pytest.raises(UsageError, match=r"/trial: No such file.* hierarchy of cgroup v1"):
        memory_v1(root).find("/trial")
    (root.parent / "mounts").write_text(f"cgroup2 {root} cgroup2 rw 0 0\n")
    with pytest.raises(UsageError, match=r"hierarchy of cgroup v1 is not mounted here"):
        Cgroups(root.parent / "mounts", v1=True).find("/system.slice")


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


def test_names_that_nobody_asks_for_are_forgotten_when_there_are_too_many(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups_module, "MAX_NAMES", 10)
    cgroups = open_cgroups(root)
    ids = []
    for name in range(50):
        (root / f"job{name}").mkdir()
        ids.append(number(root / f"job{name}"))
    names = cgroups.names(ids)
    assert names == {each: f"/job{i}" for i, each in enumerate(ids)}
    for name in range(50):  # a number of a removed folder may be used again here
        (root / f"job{name}").rename(root.parent / f"gone{name}")
    assert cgroups.names([ids[7], ids[9]]) == {ids[7]: "/job7", ids[9]: "/job9"}
    assert len(cgroups._names) == 12


def test_the_hierarchy_is_not_walked_for_each_unknown_id(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers come and go faster than a walk over 20,000 cgroups."""
    walks: list[str] = []
    directories = cgroups_module._directories

    def counted(root: str) -> Iterator[tuple[int, str]]:
        walks.append(root)
        return directories(root)

    monkeypatch.setattr(cgroups_module, "_directories", counted)
    now = [100.0]
    cgroups = open_cgroups(root, clock=lambda: now[0])
    cgroups.names([number(root)])
    for name in range(20):
        (root / f"job{name}").mkdir()
        later = number(root / f"job{name}")
        assert cgroups.names([later]) == {later: f"[{later}]"}
    assert len(walks) == 1
    now[0] += cgroups_module.WALK_SECONDS
    assert cgroups.names([later]) == {later: "/job19"}
    assert len(walks) == 2


@pytest.mark.parametrize("answer", ["/later", ""])
def test_an_id_is_opened_by_its_file_handle(
    root: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    opened: list[int] = []

    def open_by_id(mount: int, wanted: int) -> str:
        opened.append(wanted)
        return f"{root}{answer}" if answer else ""

    monkeypatch.setattr(cgroups_module, "_open_by_id", open_by_id)
    cgroups = open_cgroups(root)
    for _ in range(3):
        assert cgroups.names([number(root), 99]) == {number(root): "/", 99: answer or "[99]"}
    assert opened == [99], "one that is gone does not come back"


@pytest.mark.skipif(not Path("/sys/fs/cgroup").exists(), reason="needs a cgroup v2 hierarchy")
def test_ids_of_this_host_are_opened_by_file_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    mount = Cgroups()._root
    if mount is None or os.geteuid() != 0:
        pytest.skip("needs root and a cgroup v2 hierarchy")
    descriptor = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert cgroups_module._open_by_id(descriptor, number(Path(mount))) == mount
        assert cgroups_module._open_by_id(descriptor, 1 << 60) == ""
    finally:
        os.close(descriptor)


def test_a_path_gives_the_number_of_its_ancestors(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroups = open_cgroups(root)
    assert cgroups.find_at("/system.slice/")[1] == cgroups_module.ANY_LEVEL
    monkeypatch.setattr(cgroups_module, "_ROOT_INODE", number(root))
    assert [cgroups.find_at(path)[1] for path in ("/", "/system.slice/sshd.service")] == [0, 2]


def test_oom_kills_are_those_of_cgroups_and_of_the_ones_above(root: Path) -> None:
    events = "low 0\nhigh 0\nmax 17\noom 5\noom_kill {}\noom_group_kill 0\n"
    (root / "system.slice/memory.events").write_text(events.format(7))
    (root / "system.slice/sshd.service/memory.events").write_text(events.format(0))
    (root / "memory.events").write_text(events.format(31))  # the root's has none
    paths = ["/system.slice/sshd.service", "/system.slice/removed", "[17]", "/"]
    killed = {"/system.slice": 7, "/system.slice/sshd.service": 0}
    assert open_cgroups(root).oom_kills(paths) == killed
    (root / "system.slice/memory.events").write_text("oom_kill x")
    assert open_cgroups(root).oom_kills(paths) == {"/system.slice/sshd.service": 0}
