# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of verdicts, one of each format: how they are made.

`python -m tests.support.checkpoints` writes that of the current number to CHECKPOINTS; those of
earlier numbers are never written again. tests/unit/leaks/test_checkpoint.py reads all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from slabmon.leaks import checkpoint
from slabmon.leaks.observer import Observer
from slabmon.model import Slabinfo, Snapshot
from tests.scenarios.host import Simulation, Stream, World
from tests.support.builders import device

CHECKPOINTS = Path(__file__).parents[1] / "unit/leaks/checkpoints"
STEP, SAVED, END = 15.0, 1500.0, 2100.0
_MIB = 1 << 20


def leaking() -> World:
    """Return a host with a leak at one site of a module, beside churn and a device that grows."""
    births = np.linspace(0.1, END, 400)
    world = World(
        [
            Stream(("leak", 4, "mod"), "kmalloc-1k", 1024, births, np.full(400, np.inf)),
            Stream(("churn", 8, None), "kmalloc-64", 64, births, births + 90),
        ],
        sample_bytes=0,
    )
    world.devices.append(lambda t: device("pci", "hub", managed_bytes=256 * int(t / 60)))
    return world


def shown(begin: float = STEP, end: float = END, session: float = 0.0) -> Iterator[Snapshot]:
    """Yield what is seen of it from `begin` to `end`, STEP apart: a cache fills memory meanwhile.
    `session`: seconds at which tracking began again."""
    world = leaking()
    for snapshot in Simulation(world, np.random.default_rng(5)).run(end, STEP):
        seconds = snapshot.tracking.seconds
        if seconds < begin:
            continue
        filling = replace(
            snapshot.caches[0],
            name="msg",
            slabinfo=Slabinfo(1, 1, 64, round(4 * _MIB * seconds)),
        )
        tracking = snapshot.tracking
        if session:
            tracking = replace(tracking, since=tracking.since + session, seconds=seconds - session)
        yield replace(snapshot, caches=(*snapshot.caches, filling), tracking=tracking)


def watching(end: float = SAVED) -> Observer:
    """Return an observer that has watched it until `end`."""
    observer = Observer()
    for snapshot in shown(end=end):
        observer.add(snapshot)
    return observer


if __name__ == "__main__":
    (CHECKPOINTS / f"{checkpoint.FORMAT}.checkpoint").write_bytes(checkpoint.pack(watching()))
