# SPDX-License-Identifier: Apache-2.0
"""Time and size of reports of a large host, from a recording: `make bench-report` (docs/report.md).

A benchmark, not a test. Each report is a separate process, as for a user.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from slabmon.model import Live, Snapshot
from slabmon.store.writer import RecordingWriter
from tests.support.snapshots import synthetic

MOMENTS, STEP = 30, 10.0
CASES = {
    "html": [],
    "html of a change": ["--from", "-2m"],
    "html by process and cgroup": ["--by", "process,cgroup"],
    "pprof": ["--format", "pprof"],
    "folded": ["--format", "folded"],
}


def at(base: Snapshot, number: int) -> Snapshot:
    """Return the large host at one of the moments: every site allocates and holds more than
    before, and each object lives for a third of the recording."""
    seconds, size = number * STEP, 64 * number
    sites = tuple(
        site._replace(allocs=number * i, allocated_bytes=size * i, live=Live(i, size * i, 8 * i))
        for i, site in enumerate(base.sites)
    )
    born = base.tracked.born_ns.copy()
    born[number % 3 :: 3] += number
    return replace(
        base,
        sites=sites,
        tracking=replace(base.tracking, seconds=seconds),
        tracked=replace(base.tracked, born_ns=born),
    )


def main() -> int:
    """Print wall-clock and CPU seconds and the size of each kind of report."""
    base = synthetic()
    with tempfile.TemporaryDirectory() as directory:
        recording, output = Path(directory, "large.db"), Path(directory, "report")
        with RecordingWriter(recording) as history:
            for number in range(1, MOMENTS + 1):
                history.append(at(base, number), 1.7e9 + number * STEP)
        for name, options in CASES.items():
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            begin = time.monotonic()
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "slabmon",
                    "report",
                    "--replay",
                    recording,
                    "-o",
                    output,
                    *options,
                ],
                check=True,
            )
            wall = time.monotonic() - begin
            now = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
            sys.stdout.write(
                f"{name:27} {wall:5.1f} s, CPU {cpu:4.1f} s, "
                f"{output.stat().st_size / 1e6:6.2f} MB\n"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
