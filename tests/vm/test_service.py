"""The service on a real systemd: as a Debian package, and by `make install`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.__main__ import pytest_command
from tests.vm.host import PROJECT, run
from tests.vm.machine import run_guest

pytestmark = pytest.mark.vm
STORY = "tests/vm/systemd"


def test_the_debian_package() -> None:
    result = run_guest("6.12", f"SLABMON_INSTALL=deb {pytest_command(STORY)}", systemd=True,
                       root="trixie")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert not result.complaints


def test_make_install(tmp_path: Path) -> None:
    work = tmp_path / "work"
    run(["make", "install", f"DESTDIR={work}/stage"], what="make install", cwd=PROJECT)
    result = run_guest("6.1", f"SLABMON_INSTALL=make {pytest_command(STORY)}", systemd=True,
                       work=work)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert not result.complaints
