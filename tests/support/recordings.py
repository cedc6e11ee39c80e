# SPDX-License-Identifier: Apache-2.0
"""Recordings for tests: a host whose counters grow from snapshot to snapshot."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from pathlib import Path

from slabmon.model import Snapshot
from slabmon.store.writer import RecordingWriter, Retention
from tests.support.builders import cache
from tests.support.censuses import rich
from tests.support.snapshots import full

START = 1_700_000_000.0
STEP = 10.0


def moment(number: int, noise: int = 256) -> Snapshot:
    """Return the host at START + number * STEP, with `noise` incompressible bytes."""
    plain = full()
    first = replace(plain.caches[0], allocs=101 + 7 * number)
    others = tuple(cache(f"cache-{i}", allocs=i * number) for i in range(number % 5))
    cgroups = {1: random.Random(number).randbytes(noise).hex()}
    return replace(
        plain,
        caches=(first, plain.caches[1], *others),
        tracking=replace(plain.tracking, seconds=12.5 + number * STEP),
        tracked=replace(plain.tracked, cgroups=cgroups),
        census=rich(number * STEP) if number else None,
    )


def noisy(number: int) -> Snapshot:
    """Return a snapshot of at least 8 KiB compressed."""
    return moment(number, 8192)


def record(path: Path, count: int, retention: Retention | None = None) -> Path:
    """Write a recording of `count` snapshots."""
    with RecordingWriter(path, retention or Retention()) as writer:
        for number in range(count):
            writer.append(moment(number), START + number * STEP)
    return path


def damage(path: Path, number: int) -> None:
    """Damage one snapshot of a recording, and with it the later ones of its group."""
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE snapshots SET data = x'00' WHERE id = ?", (number,))
    database.close()
