# SPDX-License-Identifier: Apache-2.0
"""slabmon bench: measures the cost of slabmon on this host."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

DEFAULT_ROUNDS, DEFAULT_REAL_ROUNDS = 100, 20


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "bench",
        parents=[common],
        help="measure the cost of slabmon on this host",
        description="Runs programs that hosts run (fork and exec, find, tar, git, a compiler, and "
        "redis, nginx, postgres where they are installed) and compares their CPU time and "
        "throughput with and without slabmon attached, in pairs. Then runs small loops of system "
        "calls on one CPU, alternately with and without slabmon, and reports the time added to "
        "each pair of an allocation and its free: compared with nothing attached, and with empty "
        "BPF programs on the same events, which are the lower limit for any tracer.",
    )
    parser.add_argument(
        "--workload",
        metavar="NAME",
        help="run only this one: fork-and-exec, find, tar, git-status, compile, redis, nginx, "
        "postgres; or a loop: message-queue, file-open, pipe, socket, mixed (default: all)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=DEFAULT_ROUNDS,
        metavar="N",
        help=f"rounds of all modes of a loop; more give more precise results (default "
        f"{DEFAULT_ROUNDS})",
    )
    parser.add_argument(
        "--real-rounds",
        type=int,
        default=DEFAULT_REAL_ROUNDS,
        metavar="N",
        help="the same of a program, each of half a second in each of seven modes (default "
        f"{DEFAULT_REAL_ROUNDS})",
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
    from slabmon.bench.commands import COMMANDS
    from slabmon.bench.run import Choice
    from slabmon.bench.run import run as measure
    from slabmon.bench.workloads import WORKLOADS
    from slabmon.runtime.progress import track

    loops = {kind.name.replace(" ", "-"): kind for kind in WORKLOADS}
    commands = {kind.name.replace(" ", "-"): kind for kind in COMMANDS}
    name = options.workload
    if name is not None and name not in loops | commands:
        known = ", ".join(commands | loops)
        raise UsageError(f"unknown workload {name!r}: expected {known}")
    for flag, rounds in (("--rounds", options.rounds), ("--real-rounds", options.real_rounds)):
        if rounds < 4:
            raise UsageError(f"{flag}: expected at least 4, and its default for reliable results")
    if options.cpu is not None and options.cpu not in os.sched_getaffinity(0):
        raise UsageError(f"--cpu {options.cpu}: this process may not run on that CPU")
    choice = Choice(
        loops=[kind for key, kind in loops.items() if name in (None, key)],
        commands=[kind for key, kind in commands.items() if name in (None, key)],
        rounds=options.rounds,
        real_rounds=options.real_rounds,
        cpu=options.cpu,
        peers=options.peers,
    )
    document: dict[str, Any] = {}
    for _ in track(measure(choice, document), choice.steps, "measuring"):
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
    yield from _real(document["real"])
    if document["workloads"]:
        yield ""
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


def _real(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of real workloads."""
    if rows:
        yield ""
        yield "CPU time and throughput of programs, nothing attached = 1: median (quartiles)"
    for row in rows:
        yield ""
        if "absent" in row:
            yield f"{row['workload']}: not available: {row['absent']}"
            continue
        yield (
            f"{row['workload']}: {row['about']}; {row['per_second']['median']:,.1f} {row['unit']}/s"
        )
        peers = [peer for peer in row.get("peers", ()) if "absent" not in peer]
        for each in (*row["modes"], *peers):
            cpu, throughput = each["cpu_ratio"], each["throughput_ratio"]
            yield (
                f"  {each.get('mode') or each['name']:20} CPU {_quartiles(cpu)}  throughput "
                f"{_quartiles(throughput)}"
            )


def _quartiles(spread: dict[str, float]) -> str:
    return f"{spread['median']:.3f} ({spread['low']:.3f} to {spread['high']:.3f})"


def _row(name: str, row: dict[str, Any]) -> str:
    spread = row["added_ns"]
    quartiles = f"({spread['low']:.0f} to {spread['high']:.0f})"
    times = f"{row['ratio']:.2f} x empty" if row["ratio"] else ""
    return f"  {name:20} {spread['median']:7.0f} {quartiles:16} {times}".rstrip()
