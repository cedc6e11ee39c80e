# SPDX-License-Identifier: Apache-2.0
"""slabmon bench: what slabmon costs on this host."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

DEFAULT_ROUNDS = 100


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "bench",
        parents=[common],
        help="the cost of slabmon on this host",
        description="Runs small loops of system calls on one CPU with slabmon attached and not, "
        "in turns, and tells what each pair of an allocation and its free costs more: beside no "
        "program, and beside empty programs on the same events, less than which none can cost.",
    )
    parser.add_argument(
        "--workload",
        metavar="NAME",
        help="only this one: message-queue, file-open, pipe, socket, mixed",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=DEFAULT_ROUNDS,
        metavar="N",
        help=f"rounds of all modes; more is more exact (default {DEFAULT_ROUNDS})",
    )
    parser.add_argument(
        "--cpu", type=int, metavar="N", help="measure on this CPU, default the last"
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="measure other tools too, those that are installed and run here",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    import os

    from slabmon.base.errors import UsageError
    from slabmon.bench.run import run as measure
    from slabmon.bench.run import steps_of
    from slabmon.bench.workloads import WORKLOADS
    from slabmon.runtime.progress import track

    kinds = {kind.name.replace(" ", "-"): kind for kind in WORKLOADS}
    if options.workload is not None and options.workload not in kinds:
        raise UsageError(f"no workload is named {options.workload!r}; there are {', '.join(kinds)}")
    if options.rounds < 4:
        raise UsageError("--rounds is too small; give at least 4, and 100 for figures to rely on")
    if options.cpu is not None and options.cpu not in os.sched_getaffinity(0):
        raise UsageError(f"--cpu {options.cpu} is not a CPU this process may run on")
    chosen = [kinds[options.workload]] if options.workload else list(kinds.values())
    document: dict[str, Any] = {}
    steps = measure(chosen, options.rounds, options.cpu, options.peers, document)
    for _ in track(steps, steps_of(chosen, options.rounds, options.peers), "measuring"):
        pass
    text = json.dumps(document) + "\n" if options.format == "json" else "\n".join(table(document))
    sys.stdout.write(text)
    return 0


def table(document: dict[str, Any]) -> Iterator[str]:
    """The document for a person."""
    machine = document["machine"]
    yield (
        f"Linux {machine['kernel']}, {machine['cpu']}, {machine['cpus']} CPUs, measured on CPU "
        f"{machine['measured_cpu']}, load {machine['load']:.1f}"
    )
    yield "Nanoseconds added to a pair of an allocation and its free: median (quartiles)"
    for workload in document["workloads"]:
        yield ""
        yield (
            f"{workload['workload']}: {workload['about']}; {workload['kmalloc_pairs']:g} "
            f"kmalloc and {workload['kmem_cache_pairs']:g} kmem_cache pairs in "
            f"{workload['modes'][0]['iteration_ns']['median']:.0f} ns"
        )
        for row in workload["modes"][1:]:
            yield _row(row["mode"], row)
    if document.get("peers"):
        yield ""
        yield f"other tools, {document['workloads'][0]['workload']}"
    for peer in document.get("peers", ()):
        if "absent" in peer:
            yield f"  {peer['name']:20} does not run here: {peer['absent']}"
        else:
            yield _row(peer["name"], peer)
    yield ""


def _row(name: str, row: dict[str, Any]) -> str:
    spread = row["added_ns"]
    quartiles = f"({spread['low']:.0f} to {spread['high']:.0f})"
    times = f"{row['ratio']:.2f} x empty" if row["ratio"] else ""
    return f"  {name:20} {spread['median']:7.0f} {quartiles:16} {times}".rstrip()
