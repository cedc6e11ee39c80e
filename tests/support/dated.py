# SPDX-License-Identifier: Apache-2.0
"""Readings dated further apart than they are taken: a verdict takes twenty minutes of watching,
which no test waits for. The ages of objects are by the same clock."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.leaks.series import SCALES
from slabmon.model import Snapshot
from slabmon.store.writer import RecordingWriter

STEP_SECONDS = int(SCALES[0][0])  # as the engine wants them
READINGS = 109  # 27 minutes: 20 of a window, 1 to grow old, 2 to stand, and some
UPTIME_SECONDS = 3600  # at the first reading: services have started long ago


class Clock:
    """Turns readings into such that were taken STEP_SECONDS apart."""

    def __init__(self) -> None:
        self._real: list[int] = []
        self._dated: list[int] = []

    def dated(self, snapshot: Snapshot) -> Snapshot:
        """The next reading, with the time and the births of objects moved."""
        seconds = len(self._real) * STEP_SECONDS
        now = (UPTIME_SECONDS + seconds) * 10**9
        self._real.append(snapshot.tracked.now_ns)
        self._dated.append(now)
        born = np.interp(snapshot.tracked.born_ns.astype(float), self._real, self._dated)
        return replace(
            snapshot,
            tracking=replace(snapshot.tracking, seconds=float(seconds)),
            tracked=replace(snapshot.tracked, now_ns=now, born_ns=born.astype("u8")),
        )


def record(
    path: Path, settings: Settings, work: Callable[[], object], details: bool = False
) -> None:
    """Record READINGS, between which `work` is done."""
    clock = Clock()
    with RecordingWriter(path) as history, open_tracker(settings) as tracker:
        for number in range(READINGS):
            if number:
                work()
            snapshot = clock.dated(tracker.snapshot(details=details))
            history.append(snapshot, at=float(number * STEP_SECONDS))


def leaks(recording: Path) -> dict[str, Any]:
    """Return what the command says of a recording."""
    options = ("--format", "json", "--replay", str(recording))
    output = subprocess.check_output([sys.executable, "-m", "slabmon", "leaks", *options])
    document: dict[str, Any] = json.loads(output)
    return document
