# SPDX-License-Identifier: Apache-2.0
"""`make install` and `make uninstall` into a directory, as packagers of other systems use them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from slabmon import __version__
from tests.vm.host import PROJECT
from tests.vm.roots import copy_project

PREFIX, SYSCONFDIR = Path("opt/slabmon"), Path("opt/etc")


def make(goal: str, into: Path, project: Path = PROJECT) -> None:
    subprocess.run(
        ["make", goal, f"DESTDIR={into}", f"PREFIX=/{PREFIX}", f"SYSCONFDIR=/{SYSCONFDIR}"],
        cwd=project,
        check=True,
        capture_output=True,
    )


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_everything_goes_where_it_is_told_and_away_again(tmp_path: Path) -> None:
    make("install", tmp_path)
    found = files(tmp_path)
    assert found >= {
        PREFIX / "bin/slabmon",
        PREFIX / "lib/slabmon/slabmon/bpf/slabmon.bpf.c",
        PREFIX / "lib/slabmon/slabmon/bpf/include/linux/types.h",
        PREFIX / "lib/systemd/system/slabmon.service",
        PREFIX / "lib/systemd/system/slabmon.socket",
        PREFIX / "lib/sysusers.d/slabmon.conf",
        PREFIX / "lib/tmpfiles.d/slabmon.conf",
        PREFIX / "share/doc/slabmon/service.md",
        PREFIX / "share/doc/slabmon/runbooks/SlabmonDown.md",
        PREFIX / "share/doc/slabmon/slabmon.toml",
        SYSCONFDIR / "slabmon/slabmon.toml",
    }
    assert {path.parts[:2] for path in found} == {PREFIX.parts, SYSCONFDIR.parts}
    unit = (tmp_path / PREFIX / "lib/systemd/system/slabmon.service").read_text()
    assert "@" not in "".join(line for line in unit.splitlines() if "Filter" not in line)
    assert f"/{PREFIX}/bin/slabmon serve --config=/{SYSCONFDIR}/slabmon/slabmon.toml" in unit

    environment = {**os.environ, "PYTHONPATH": str(tmp_path / PREFIX / "lib/slabmon")}
    configuration = str(tmp_path / SYSCONFDIR / "slabmon/slabmon.toml")
    for arguments, says in (
        (["--version"], __version__),
        (["serve", "--config", configuration, "--config.check"], "valid"),
    ):
        said = subprocess.run(
            ["/usr/bin/python3", "-P", "-m", "slabmon", *arguments],
            cwd="/",
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert says in said.stdout

    make("uninstall", tmp_path)
    assert files(tmp_path) == {SYSCONFDIR / "slabmon/slabmon.toml"}


def test_dashboards_rules_and_examples_are_installed_and_packaged(tmp_path: Path) -> None:
    project, staged, unpacked = tmp_path / "project", tmp_path / "staged", tmp_path / "unpacked"
    copy_project(project)
    wanted = set()
    for where, kind, which in (
        ("", "dashboards", "*.json"),
        ("rules", "rules", "*.yml"),
        ("examples", "examples", "*.*"),
    ):
        folder = project / "dashboards" / where
        folder.mkdir(exist_ok=True, parents=True)
        for name in ("more", "more_test"):
            (folder / which.replace("*", name, 1).replace("*", "yml")).write_text(kind)
        for path in folder.glob(which):
            if kind != "rules" or not path.stem.endswith("_test"):
                wanted.add(Path(kind) / path.name)
    make("install-files", staged, project)
    subprocess.run(["make", "deb"], cwd=project, check=True, capture_output=True)
    (package,) = (project / "build").glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
    for prefix in (staged / PREFIX, unpacked / "usr"):
        share = prefix / "share/slabmon"
        found = {path.relative_to(share) for path in share.rglob("*") if path.is_file()}
        assert found == wanted
