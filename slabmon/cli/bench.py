# SPDX-License-Identifier: Apache-2.0
"""slabmon bench: measures the cost of slabmon on this host."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

DEFAULT_ROUNDS = 100


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "bench",
        parents=[common],
        help="measure the cost of slabmon on this host",
        description="Runs small loops of system calls on one CPU, alternately with and without "
        "slabmon attached, and reports the time added to each pair of an allocation and its free: "
        "compared with nothing attached, and with empty BPF programs on the same events, which are "
        "the lower limit for any tracer.",
    )
    parser.add_argument(
        "--workload",
        metavar="NAME",
        help="run only this one: message-queue, file-open, pipe, socket or mixed (default: all)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=DEFAULT_ROUNDS,
        metavar="N",
        help=f"rounds of all modes; more give more precise results (default {DEFAULT_ROUNDS})",
    )
    parser.add_argument(
        "--cpu", type=int, metavar="N", help="CPU to measure on (default: the last)"
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="also measure other tools that are installed and work here",
    )
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="default table"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    import os

    from slabmon.base.errors import UsageError
    from slabmon.bench.run import run as measure
    from slabmon.bench.run import steps_of
    from slabmon.bench.workloads import WORKLOADS
    from slabmon.runtime.progress import track

    kinds = {kind.name.replace(" ", "-"): kind for kind in WORKLOADS}
    if options.workload is not None and options.workload not in kinds:
        raise UsageError(f"unknown workload {options.workload!r}: expected {', '.join(kinds)}")
    if options.rounds < 4:
        raise UsageError("--rounds: expected at least 4, and 100 for reliable results")
    if options.cpu is not None and options.cpu not in os.sched_getaffinity(0):
        raise UsageError(f"--cpu {options.cpu}: this process may not run on that CPU")
    chosen = [kinds[options.workload]] if options.workload else list(kinds.values())
    document: dict[str, Any] = {}
    steps = measure(chosen, options.rounds, options.cpu, options.peers, document)
    for _ in track(steps, steps_of(chosen, options.rounds, options.peers), "measuring"):
        pass
    text = json.dumps(document) + "\n" if options.format == "json" else "\n".join(table(document))
    sys.stdout.write(text)
    return 0


def table(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the document as text for people."""
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
            yield f"  {peer['name']:20} not available: {peer['absent']}"
        else:
            yield _row(peer["name"], peer)
    yield ""


def _row(name: str, row: dict[str, Any]) -> str:
    spread = row["added_ns"]
    quartiles = f"({spread['low']:.0f} to {spread['high']:.0f})"
    times = f"{row['ratio']:.2f} x empty" if row["ratio"] else ""
    return f"  {name:20} {spread['median']:7.0f} {quartiles:16} {times}".rstrip()
