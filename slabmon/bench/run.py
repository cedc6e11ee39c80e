# SPDX-License-Identifier: Apache-2.0
"""Run a whole measurement: workloads in all modes, as one document."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slabmon import __version__
from slabmon.bench import real
from slabmon.bench.commands import Command
from slabmon.bench.measure import Spread, added, count_events, measure, one_cpu
from slabmon.bench.modes import FLOOR, NOTHING, Modes, Slabmon
from slabmon.bench.peers import CYCLES, PEERS, measure_peer
from slabmon.bench.workloads import Workload
from slabmon.kernel.bpf import syscall
from slabmon.state.fingerprint import sources_digest

STATISTICS_SECONDS = 0.5


def machine() -> dict[str, Any]:
    """Describe the host of the measurement."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "slabmon": __version__,
        "sources": sources_digest(),
        "load": os.getloadavg()[0],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def measure_workload(
    workload: Workload, modes: Modes, cpu: int, rounds: int, document: dict[str, Any]
) -> Iterator[None]:
    """Measure one workload in all modes, one round per step.

    `added_ns` is per pair of an allocation and its free, `ratio` its median over that of the empty
    programs.
    """
    workload.run(500)
    events = count_events(workload, modes.slabmon["counters"], cpu)
    times: dict[str, list[float]] = {}
    yield from measure(workload, modes.all, rounds, times)
    pairs = events.pairs or 1.0
    floor = added(times, FLOOR, pairs).median
    rows = []
    for mode in modes.all:
        row: dict[str, Any] = {"mode": mode.name, "about": mode.about}
        row["iteration_ns"] = Spread.of(times[mode.name]).rounded()
        if mode.name != NOTHING:
            spread = added(times, mode.name, pairs)
            row["added_ns"] = spread.rounded()
            row["ratio"] = round(spread.median / floor, 2) if floor > 0 else None
        rows.append(row)
    document |= {
        "workload": workload.name,
        "about": workload.about,
        "rounds": rounds,
        "kmalloc_pairs": events.kmalloc,
        "kmem_cache_pairs": events.kmem_cache,
        "modes": rows,
        "blocks_ns": {n: [round(t, 1) for t in v] for n, v in times.items()},
    }


def program_costs(workload: Workload, mode: Slabmon) -> dict[str, dict[str, float]]:
    """Return the run time of each program by the kernel's own statistics, which cost time too."""
    programs = mode.tracker.programs
    before = {name: syscall.program_info(fd) for name, fd in programs.programs.items()}
    statistics = syscall.enable_stats()
    mode.on()
    try:
        end = time.monotonic() + STATISTICS_SECONDS
        while time.monotonic() < end:
            workload.run(200)
    finally:
        mode.off()
        os.close(statistics)
    costs = {}
    for name, fd in programs.programs.items():
        now = syscall.program_info(fd)
        runs = now.runs - before[name].runs
        row: dict[str, float] = {
            "instructions": programs.instructions[name],
            "verified_instructions": now.verified_instructions,
        }
        if runs:
            seconds = now.run_seconds - before[name].run_seconds
            row |= {"runs": runs, "mean_ns": round(seconds / runs * 1e9, 1)}
        costs[name.removeprefix("on_")] = row
    return costs


def measure_peers(
    workload: Workload, row: dict[str, Any], cpus: set[int], peers: list[dict[str, Any]]
) -> Iterator[None]:
    """Measure all peers under the workload of `row`, one cycle of one peer per step."""
    floor = next(mode for mode in row["modes"] if mode["mode"] == FLOOR)["added_ns"]["median"]
    for peer in PEERS:
        peers.append({})
        yield from measure_peer(peer, workload, row["kmalloc_pairs"] or 1.0, peers[-1], cpus)
        if "added_ns" in peers[-1]:
            peers[-1]["ratio"] = round(peers[-1]["added_ns"]["median"] / floor, 2)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to measure: loops of system calls on `cpu` (None: the last), in so many `rounds`, and
    real workloads in `real_rounds`, with other tools or without."""

    loops: Sequence[type[Workload]]
    commands: Sequence[type[Command]]
    rounds: int
    real_rounds: int
    cpu: int | None = None
    peers: bool = False

    @property
    def steps(self) -> int:
        """The number of steps that run() takes at most."""
        peers = len(PEERS) * CYCLES if self.peers and self.loops else 0
        in_real = real.steps_of(self.commands, self.real_rounds, self.peers)
        return in_real + len(self.loops) * self.rounds + peers


def run(choice: Choice, document: dict[str, Any]) -> Iterator[None]:
    """Fill in the document: real workloads, then loops, one round of one per step; then, under the
    first loop, other tools."""
    document |= {"schema": 1, "machine": machine(), "real": [], "workloads": []}
    cpus = os.sched_getaffinity(0)
    with Modes() as modes:
        rows = document["real"]
        yield from real.measure(choice.commands, modes.all, choice.real_rounds, choice.peers, rows)
        with one_cpu(choice.cpu) as chosen:
            document["machine"]["measured_cpu"] = chosen
            for kind in choice.loops:
                yield from _measure_loop(kind, modes, chosen, cpus, choice, document)


def _measure_loop(
    kind: type[Workload],
    modes: Modes,
    cpu: int,
    cpus: set[int],
    choice: Choice,
    document: dict[str, Any],
) -> Iterator[None]:
    workload = kind()
    row: dict[str, Any] = {}
    document["workloads"].append(row)
    try:
        yield from measure_workload(workload, modes, cpu, choice.rounds, row)
        if kind is not choice.loops[0]:
            return
        document["programs"] = {
            name: program_costs(workload, mode) for name, mode in modes.slabmon.items()
        }
        if choice.peers:
            document["peers"] = []
            yield from measure_peers(workload, row, cpus, document["peers"])
    finally:
        workload.close()
