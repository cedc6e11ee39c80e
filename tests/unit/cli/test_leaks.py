# SPDX-License-Identifier: Apache-2.0
"""slabmon leaks on the command line, of recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from slabmon.cli.main import main
from tests.support.recordings import damage, record


def test_damaged_snapshots_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slabs = record(tmp_path / "slabs.db", 30)
    damage(slabs, 30)
    assert main(["leaks", "--replay", str(slabs)]) == 0
    output, errors = capsys.readouterr()
    assert "Watched for 4m40s" in output
    assert errors.startswith(f"slabmon: warning: a snapshot was left out: recording {slabs}, ")
    assert errors.count("\n") == 1
    damage(slabs, 20)
    assert main(["leaks", "--replay", str(slabs)]) == 0
    assert "11 snapshots were left out" in capsys.readouterr().err
    damage(slabs, 1)
    assert main(["leaks", "--replay", str(slabs)]) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert "snapshot 1: " in errors
