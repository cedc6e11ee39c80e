# SPDX-License-Identifier: Apache-2.0
"""Measure other tools that watch kernel allocations, where they run.

Each is started and stopped several times, with blocks of the workload before, during and after.
Tools that cannot run here are listed with the reason.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from slabmon.bench.measure import Spread, block, iterations_of
from slabmon.bench.workloads import Workload

BLOCKS, CYCLES = 40, 3
_START_SECONDS, _SETTLE_SECONDS, _STOP_SECONDS = 40.0, 2.0, 30.0

_TRACK = (
    "tracepoint:kmem:kmalloc { @live[args->ptr] = args->bytes_alloc; } "
    "tracepoint:kmem:kfree { delete(@live[args->ptr]); }"
)
_COUNT = "tracepoint:kmem:kmalloc { @[args->call_site] = count(); }"
# In its own instance: others may be using the default ring buffer. A benchmark that was killed may
# have left one.
_FTRACE = """
instance=/sys/kernel/tracing/instances/slabmon_bench
rmdir $instance 2> /dev/null
mkdir $instance || exit 1
trap 'exit 0' INT
trap 'echo 0 > $instance/events/enable; rmdir $instance' EXIT
echo 1 > $instance/events/kmem/kmalloc/enable
echo 1 > $instance/events/kmem/kfree/enable
echo ready
while :; do sleep 1; done
"""


@dataclass(frozen=True)
class Peer:
    """A tool. `ready` is the text it prints just before it attaches, or ""."""

    name: str
    about: str
    command: tuple[str, ...]
    package: str
    ready: str = ""


PEERS = (
    Peer(
        "bcc memleak",
        "every object with its stack, summed by stack (kernel mode)",
        ("memleak-bpfcc", "3600"),
        "bpfcc-tools",
        "Attaching",
    ),
    Peer(
        "libbpf-tools memleak",
        "the same, compiled beforehand",
        ("memleak", "3600"),
        "libbpf-tools",
        "racing",
    ),
    Peer("slabratetop", "allocations per cache", ("slabratetop", "-C", "3600"), "libbpf-tools"),
    Peer(
        "bpftrace, tracking",
        "every kmalloc until its kfree",
        ("bpftrace", "-e", _TRACK),
        "bpftrace",
        "Attaching",
    ),
    Peer(
        "bpftrace, counting",
        "kmalloc events by call site",
        ("bpftrace", "-e", _COUNT),
        "bpftrace",
        "Attaching",
    ),
    Peer(
        "ftrace",
        "kmalloc and kfree events into a ring buffer",
        ("sh", "-c", _FTRACE),
        "dash",
        "ready",
    ),
    Peer(
        "perf record",
        "kmalloc and kfree events into a file",
        ("perf", "record", "-a", "-e", "kmem:kmalloc", "-e", "kmem:kfree", "-o", "perf.data"),
        "linux-perf",
    ),
)


class Absent(Exception):
    """The tool does not run here, for the reason given."""


@dataclass
class Running:
    """A started peer, with its output in a separate directory."""

    peer: Peer
    folder: str
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        if shutil.which(self.peer.command[0]) is None:
            raise Absent(f"{self.peer.command[0]} is not installed; Debian: {self.peer.package}")
        with open(self._path, "wb") as output:
            # A shell's background jobs ignore the interrupt by which the tool is ended.
            self.process = subprocess.Popen(
                ("env", "--default-signal=INT", *self.peer.command),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    @property
    def _path(self) -> str:
        return os.path.join(self.folder, "output")

    def output(self) -> str:
        """Return its output so far."""
        with open(self._path, encoding="utf-8", errors="replace") as output:
            return output.read()

    def wait_until_ready(self) -> None:
        """Wait until it is attached. Raises Absent if it ends, or takes too long."""
        end = time.monotonic() + _START_SECONDS
        while self.peer.ready not in self.output():
            self._check()
            if time.monotonic() > end:
                raise Absent(f"it did not start within {_START_SECONDS:.0f} s")
            time.sleep(0.1)
        time.sleep(_SETTLE_SECONDS)
        self._check()

    def _check(self) -> None:
        if self.process.poll() is not None:
            lines = [line for line in self.output().splitlines() if line.strip()]
            reason = next((li for li in lines if "rror" in li or "ailed" in li), "")
            raise Absent(reason.strip() or (lines or ["it ended at once"])[-1].strip())

    def stop(self) -> None:
        """End it by an interrupt, else by force."""
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_SECONDS)
                return


@contextlib.contextmanager
def running(peer: Peer) -> Iterator[Running]:
    """Run the tool, attached, for the length of a with block."""
    with tempfile.TemporaryDirectory(prefix="slabmon-bench-") as folder:
        started = Running(peer, folder)
        try:
            started.wait_until_ready()
            yield started
        finally:
            started.stop()


def measure_peer(
    peer: Peer, workload: Workload, pairs: float, row: dict[str, Any], cpus: set[int]
) -> Iterator[None]:
    """Put the cost of a peer per pair, or why it is absent, into `row`; one cycle per step.

    The tool itself may run on `cpus`.
    """
    row |= {
        "name": peer.name,
        "about": peer.about,
        "package": peer.package,
        "command": " ".join(peer.command) if len(" ".join(peer.command)) < 200 else peer.command[0],
    }
    iterations = iterations_of(workload)
    affinity = os.sched_getaffinity(0)
    differences: list[float] = []
    for _ in range(CYCLES):
        try:
            without = [block(workload, iterations) for _ in range(BLOCKS)]
            os.sched_setaffinity(0, cpus)  # inherited by the tool
            with running(peer):
                os.sched_setaffinity(0, affinity)
                during = [block(workload, iterations) for _ in range(BLOCKS)]
            without += [block(workload, iterations) for _ in range(BLOCKS)]
        except Absent as error:
            row["absent"] = str(error)
            return
        finally:
            os.sched_setaffinity(0, affinity)
        base = median(without)
        differences += [(value - base) / pairs for value in during]
        yield
    spread = Spread.of(differences)
    row["added_ns"] = {name: round(getattr(spread, name), 1) for name in ("low", "median", "high")}
