# SPDX-License-Identifier: Apache-2.0
"""Jobs that end, each in a cgroup of its own, and leave a file on a tmpfs: the removed cgroups that
the files pin are counted by a census, and `slabmon leaks` says who made them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slabmon.census.model import Census, CgroupState
from slabmon.kernel.census.run import take_census
from slabmon.kernel.census.settings import CensusSettings
from slabmon.kernel.settings import Settings
from tests.support.dated import READINGS, leaks, record
from tests.vm.guest.hierarchies import hierarchy

JOBS = 5  # between two readings
FILES = Path("/dev/shm")
PAGE = 4096
# mm/memcontrol.c. Later kernels give the pages of a removed cgroup to its parent, so that only its
# struct obj_cgroup stays, for the file's inode.
MAKERS = {"mem_cgroup_css_alloc", "mem_cgroup_alloc", "mem_cgroup_css_online"}


@pytest.fixture
def files() -> Iterator[Callable[[], Path]]:
    """A file's path at each call; all of them are removed."""
    paths: list[Path] = []

    def path() -> Path:
        paths.append(FILES / f"slabmon-job-{len(paths)}")
        return paths[-1]

    yield path
    for made in paths:
        made.unlink()


def end_a_job(parent: Path, path: Path) -> None:
    """Have a process in a cgroup of its own write a page, and remove the cgroup."""
    cgroup = parent / path.name
    cgroup.mkdir()
    child = os.fork()
    if not child:
        try:
            (cgroup / "cgroup.procs").write_text("0")
            path.write_bytes(bytes(PAGE))
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    cgroup.rmdir()


def dying(census: Census) -> int:
    return sum(row.cgroups for row in census.cgroups if row.state is CgroupState.DYING)


def test_removed_cgroups_that_files_pin_are_counted_and_their_maker_is_named(
    tmp_path: Path, files: Callable[[], Path]
) -> None:
    settings = CensusSettings(cpu_seconds=600)
    before = dying(take_census(settings))
    with hierarchy(2) as parent:

        def work() -> None:
            for _ in range(JOBS):
                end_a_job(parent, files())

        record(tmp_path / "recording", Settings(sample_bytes=1024), work, details=True)
        made = (READINGS - 1) * JOBS
        assert dying(take_census(settings)) - before == made
        document = leaks(tmp_path / "recording")
    assert document["ready"]
    named = {part["suspect"] for v in document["verdicts"] for part in v["parts"]} | {
        v["suspect"] for v in document["verdicts"]
    }
    assert {name.partition("+")[0] for name in named} & MAKERS, document["verdicts"]
