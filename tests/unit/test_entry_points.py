# SPDX-License-Identifier: Apache-2.0
"""The ways in which packages start slabmon lead to its command line."""

from __future__ import annotations

import runpy
import tomllib
from importlib.metadata import EntryPoint

import pytest

from slabmon import __version__
from slabmon.cli.main import main
from tests.support.paths import ROOT


def test_the_entry_point_is_the_command_line() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert {name: EntryPoint(name, path, "").load() for name, path in scripts.items()} == {
        "slabmon": main
    }


@pytest.mark.parametrize("path", ["packaging/debian/slabmon", "slabmon/__main__.py"])
def test_a_script_runs_the_command_line(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["slabmon", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / path), run_name="__main__")
    assert not ended.value.code
    assert __version__ in capsys.readouterr().out
