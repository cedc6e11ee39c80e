# SPDX-License-Identifier: Apache-2.0
"""Recordings of this kernel: record, and what is read from the file."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from slabmon.store.recording import Recording
from tests.support.snapshots import show_everything

pytestmark = [pytest.mark.live, pytest.mark.beside]


def test_this_host_is_recorded_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "slabs.db"
    command = [
        sys.executable,
        "-m",
        "slabmon",
        "record",
        "-o",
        str(path),
        "--interval",
        "0.2",
        "--seconds",
        "1",
    ]
    subprocess.run(command, check=True, timeout=120)
    with Recording(path) as found:
        snapshots = [snapshot for _, snapshot in found.between()]
    assert len(snapshots) >= 2
    for before, after in pairwise(snapshots):
        assert after.tracking.since == before.tracking.since
        assert after.tracking.seconds > before.tracking.seconds
        assert sum(c.allocs for c in after.caches) > sum(c.allocs for c in before.caches)
    assert snapshots[-1].sites
    assert "kmalloc-64" in show_everything(snapshots[-1])
