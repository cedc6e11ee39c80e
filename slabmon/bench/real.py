# SPDX-License-Identifier: Apache-2.0
"""CPU time and throughput of real workloads in all modes, paired by rounds.

Each round runs the workload once in every mode, attached just before and detached just after, in
random order; a mode's figures are ratios to the run of the same round with nothing attached.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slabmon.bench.commands import Command
from slabmon.bench.measure import Spread
from slabmon.bench.modes import NOTHING, Mode
from slabmon.bench.peers import CYCLES, PEERS, Absent, Peer, running

RUN_SECONDS = 0.5  # of a run with nothing attached
_RUNS = 3  # of a peer's cycle: during, and as many before and after


@dataclass(frozen=True)
class Run:
    """One run: units of work, CPU seconds of all its processes, units per second."""

    units: float
    cpu_seconds: float
    per_second: float


@contextmanager
def prepared(kind: type[Command]) -> Iterator[Command]:
    """Make a workload ready. Raises Absent if it cannot run here."""
    with tempfile.TemporaryDirectory(prefix="slabmon-bench-") as folder:
        command = kind(Path(folder))
        try:
            command.prepare()
            yield command
        finally:
            command.close()


def once(command: Command, count: int) -> Run:
    """Run it and measure."""
    cpu, start = command.cpu_seconds(), time.monotonic()
    units = command.run(count)
    seconds = time.monotonic() - start
    return Run(units, command.cpu_seconds() - cpu, units / seconds)


def count_of(command: Command) -> int:
    """Return how often the work has to be done to take RUN_SECONDS, after a first time that fills
    caches."""
    command.run(1)
    start = time.monotonic()
    command.run(1)
    return max(1, round(RUN_SECONDS / (time.monotonic() - start)))


def measure_real(
    command: Command, modes: Sequence[Mode], rounds: int, row: dict[str, Any]
) -> Iterator[None]:
    """Measure one workload in all modes and put the figures into `row`, one round per step."""
    count = count_of(command)
    runs: dict[str, list[Run]] = {mode.name: [] for mode in modes}
    order = list(modes)
    for _ in range(rounds):
        random.shuffle(order)
        for mode in order:
            mode.on()
            try:
                runs[mode.name].append(once(command, count))
            finally:
                mode.off()
        yield
    base = runs[NOTHING]
    row |= {
        "rounds": rounds,
        "units_per_run": base[0].units,
        "cpu_seconds": _spread([run.cpu_seconds for run in base]),
        "per_second": _spread([run.per_second for run in base]),
        "modes": [
            {"mode": mode.name, "about": mode.about, **_ratios(runs[mode.name], base)}
            for mode in modes
            if mode.name != NOTHING
        ],
        "runs": {
            name: [(round(run.cpu_seconds, 4), round(run.per_second, 1)) for run in values]
            for name, values in runs.items()
        },
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    spread = Spread.of(values)
    return {name: round(getattr(spread, name), 4) for name in ("low", "median", "high")}


def _ratios(runs: Sequence[Run], base: Sequence[Run]) -> dict[str, Any]:
    """Return quartiles of the ratios of each run to that of the same round without."""
    pairs = list(zip(runs, base, strict=True))
    return {
        "cpu_ratio": _spread([run.cpu_seconds / without.cpu_seconds for run, without in pairs]),
        "throughput_ratio": _spread(
            [run.per_second / without.per_second for run, without in pairs]
        ),
    }


def measure_real_peer(peer: Peer, command: Command, row: dict[str, Any]) -> Iterator[None]:
    """Put the ratios of another tool into `row`, or why it is absent; one cycle per step. It takes
    seconds to start, so its runs are compared with those just before and after it."""
    row |= {"name": peer.name, "about": peer.about, "package": peer.package}
    count = count_of(command)
    during, without = list[Run](), list[Run]()
    for _ in range(CYCLES):
        try:
            before = [once(command, count) for _ in range(_RUNS)]
            with running(peer):
                during += [once(command, count) for _ in range(_RUNS)]
            after = [once(command, count) for _ in range(_RUNS)]
        except Absent as error:
            row["absent"] = str(error)
            return
        without += [
            Run(
                one.units,
                (one.cpu_seconds + other.cpu_seconds) / 2,
                (one.per_second + other.per_second) / 2,
            )
            for one, other in zip(before, after, strict=True)
        ]
        yield
    row |= _ratios(during, without)


def peers() -> tuple[Peer, ...]:
    """Return the tools that real workloads are measured with: those that track objects with their
    stacks, as slabmon does."""
    return tuple(peer for peer in PEERS if "memleak" in peer.name)


def steps_of(kinds: Sequence[type[Command]], rounds: int, with_peers: bool) -> int:
    """Return the number of steps that measure() takes at most."""
    return len(kinds) * (rounds + (len(peers()) * CYCLES if with_peers else 0))


def measure(
    kinds: Sequence[type[Command]],
    modes: Sequence[Mode],
    rounds: int,
    with_peers: bool,
    rows: list[dict[str, Any]],
) -> Iterator[None]:
    """Measure real workloads one after the other; those that cannot run here say why."""
    for kind in kinds:
        row: dict[str, Any] = {"workload": kind.name, "about": kind.about, "unit": kind.unit}
        rows.append(row)
        try:
            with prepared(kind) as command:
                yield from measure_real(command, modes, rounds, row)
                if with_peers:
                    row["peers"] = []
                    for peer in peers():
                        row["peers"].append({})
                        yield from measure_real_peer(peer, command, row["peers"][-1])
        except Absent as error:
            row["absent"] = str(error)
