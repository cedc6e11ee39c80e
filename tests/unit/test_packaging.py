# SPDX-License-Identifier: Apache-2.0
"""Packages start slabmon's command line, depend on its libraries, and carry its licences."""

from __future__ import annotations

import re
import runpy
import tomllib
from importlib.metadata import EntryPoint

import pytest

from slabmon import __version__
from slabmon.cli.main import main
from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Debian 13's Textual is too old for `slabmon top`.
NOT_IN_DEBIAN = {"textual"}
DEBIAN_NAMES = {"backports-zstd": "pyzstd", "google-re2": "re2", "pyyaml": "yaml"}


def test_the_entry_point_is_the_command_line() -> None:
    entry_points = {name: EntryPoint(name, path, "") for name, path in PROJECT["scripts"].items()}
    assert {name: entry.load() for name, entry in entry_points.items()} == {"slabmon": main}


@pytest.mark.parametrize("path", ["packaging/slabmon", "slabmon/__main__.py"])
def test_a_script_runs_the_command_line(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["slabmon", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / path), run_name="__main__")
    assert not ended.value.code
    assert __version__ in capsys.readouterr().out


def test_the_debian_package_depends_on_the_libraries_of_the_project() -> None:
    control = (ROOT / "packaging/debian/control").read_text().partition("\nPackage:")[2]
    libraries = {re.split("[><=;]", text)[0].strip() for text in PROJECT["dependencies"]}
    packages = {f"python3-{DEBIAN_NAMES.get(n, n)}" for n in libraries - NOT_IN_DEBIAN}
    assert set(re.findall(r"python3-[\w-]+", control)) == packages | {"python3-bpfcc"}


def test_the_debian_package_has_the_version_of_the_project() -> None:
    newest = (ROOT / "packaging/debian/changelog").read_text().partition("\n")[0]
    assert re.match(rf"slabmon \({re.escape(__version__)}-\d+\) ", newest)


def test_the_rpm_package_has_the_version_of_the_project() -> None:
    spec = (ROOT / "packaging/rpm/slabmon.spec").read_text()
    assert f"%global upstream_version {__version__}}}\n" in spec


def test_every_licence_of_the_project_has_its_text() -> None:
    names = set(re.findall(r"[A-Z][\w.-]*\d[\w.-]*", PROJECT["license"])) | {"GPL-2.0-only"}
    assert {path.stem for path in (ROOT / "LICENSES").iterdir()} == names
    assert (ROOT / "LICENSE").read_text() == (ROOT / "LICENSES/Apache-2.0.txt").read_text()
    for name in names:
        assert f"License: {name}\n" in (ROOT / "packaging/debian/copyright").read_text()
