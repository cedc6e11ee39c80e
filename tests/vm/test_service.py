# SPDX-License-Identifier: Apache-2.0
"""The service on a real systemd: as a Debian package, and by `make install`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.vm.__main__ import pytest_command
from tests.vm.host import PROJECT, run
from tests.vm.machine import run_guest
from tests.vm.roots import copy_project

pytestmark = pytest.mark.vm
# Tests to be run after those that install and start it; all without.
CHAPTERS = os.environ.get("SLABMON_CHAPTERS", "")
# The tests there are one sequence: after a failure the rest means nothing.
STORY = (
    pytest_command("tests/vm/systemd -x", CHAPTERS and f"installed or starts or ({CHAPTERS})")
    + "; status=$?; journalctl --no-pager --output short-monotonic > /vm/journal; exit $status"
)
SECONDS = 1500


def test_the_debian_package(tmp_path: Path) -> None:
    project, share = tmp_path / "project", tmp_path / "share"
    copy_project(project)
    share.mkdir()
    run(["make", "deb"], what="make deb", cwd=project)
    (package,) = (project / "build").glob("*.deb")
    shutil.copy(package, share)
    result = run_guest(
        "6.12",
        f"SLABMON_INSTALL=deb {STORY}",
        systemd=True,
        root="trixie",
        share=share,
        timeout=SECONDS,
    )
    assert result.exit_code == 0, result.output


def test_make_install(tmp_path: Path) -> None:
    staged, share = tmp_path / "staged", tmp_path / "share"
    share.mkdir()
    run(["make", "install", f"DESTDIR={staged}"], what="make install", cwd=PROJECT)
    # One file, because a guest reads thousands of them from the host for minutes.
    run(["tar", "-cf", share / "installed.tar", "-C", staged, "usr", "etc"], what="tar")
    result = run_guest(
        "6.1", f"SLABMON_INSTALL=make {STORY}", systemd=True, share=share, timeout=SECONDS
    )
    assert result.exit_code == 0, result.output
