# SPDX-License-Identifier: Apache-2.0
"""The cost of a census against memory and objects: CPU time of the inventory and of all of it.

A benchmark, not a test: `python -m benchmarks.census`; with --plant 0 1 2 4 so many million
System V messages of 64 bytes are held. Each row is a median of --runs and its quartiles. Where
memory does not suffice for all objects, random slabs are read.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from slabmon.census.model import Census
from slabmon.kernel.census import memory, reading
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.run import take_census
from slabmon.kernel.census.settings import CensusSettings
from slabmon.kernel.probe import btf
from tests.live.workload import HEADER, messages

_CPU_SECONDS = 3600.0
_LENGTH = 64 - HEADER


def cpu() -> float:
    """Return the CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def inventory() -> tuple[float, float]:
    """Return the CPU seconds of reading all slabs in a process of its own, and its peak in MiB;
    what the programs take to build is left out."""
    with memory.start_compiler() as compiler:
        layout = Layout.of(btf.read_vmlinux())
        programs = compiler.finish()
    with programs:
        kernel = memory.KernelMemory(programs, memory.Budget(_CPU_SECONDS))
        start = cpu()
        reading.read(kernel, layout)
        return cpu() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_a_process() -> tuple[float, float]:
    """Run inventory() in a process that does nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(inventory).result()


def spread(values: Sequence[float]) -> str:
    """Return a median and its quartiles."""
    if len(values) < 3:
        return f"{statistics.median(values):.2f}"
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return f"{median:.2f} ({first:.2f} to {third:.2f})"


def row(memory_mib: int, runs: int) -> str:
    """Take censuses within this much memory; return a row of the table."""
    settings = CensusSettings(cpu_seconds=_CPU_SECONDS, memory_mib=memory_mib)
    taken: list[Census] = []
    for _ in range(runs):
        taken.append(take_census(settings))
        time.sleep(0.2)
    alone = [in_a_process() for _ in range(runs)]
    last = taken[-1]
    cells = (
        f"{last.pages_read * resource.getpagesize() / (1 << 30):.1f}",
        f"{last.objects / 1e6:.2f}",
        f"{sum(row.slabs for row in last.caches) / 1e3:.0f}",
        str(memory_mib),
        f"{float(last.sampled):.0%}" if last.sampled else "all",
        spread([seconds for seconds, _ in alone]),
        spread([census.cpu_seconds for census in taken]),
        f"{statistics.median(census.peak_bytes for census in taken) / (1 << 20):.0f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory-mib", type=int, nargs="+", default=[CensusSettings.memory_mib])
    parser.add_argument("--plant", type=int, nargs="+", default=[0], help="millions, rising")
    options = parser.parse_args()
    print("| GiB | million objects | thousand slabs | MiB allowed | slabs looked into ", end="")
    print("| inventory, s of CPU | all, s of CPU | peak MiB |")
    print("|---|---|---|---|---|---|---|---|")
    planted = 0
    with messages() as queue:
        for millions in options.plant:
            while planted < millions * 1_000_000:
                queue.send(_LENGTH)
                planted += 1
            for memory_mib in options.memory_mib:
                print(row(memory_mib, options.runs), flush=True)


if __name__ == "__main__":
    main()
