# SPDX-License-Identifier: Apache-2.0
"""The process that examines one suspect, and ends with it.

Run with the number of a socket's descriptor and a JSON object of a Task as arguments. It sends one
Report in msgpack. Its programs are its own: those of the daemon count on beside them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from slabmon.base.arrays import I64, Values, distinct
from slabmon.base.errors import SlabmonError
from slabmon.base.escape import escape
from slabmon.kernel.bpf import syscall
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from slabmon.model import Examination, Snapshot, SurvivingStack

_PR_SET_PDEATHSIG = 1
_NICENESS = 10
_STACKS = 8  # in a report
_FRAMES = 16
_DRAIN_SECONDS = 1.0
# Between readings, with which stacks that nothing is left of make room for others.
_READING_SECONDS = 10.0
# What is younger than this share of the time is not judged.
OLD = 0.25
_STATS_SECONDS = 1.0
_VERIFY_CPU_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to examine: a suspect of kind cache or site by its name in the views, for so long."""

    kind: str
    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found, None if there is an `error`; and the CPU time that its BPF programs took,
    extrapolated from _STATS_SECONDS (0: not measured)."""

    found: Examination | None = None
    error: str = ""
    bpf_seconds: float = 0.0


def filter_of(task: Task) -> Filter:
    """Return the filter of exact mode that selects a suspect."""
    if task.kind == "cache":
        return Filter(cache=task.name)
    return Filter(site=task.name)


def examine(task: Task) -> Report:
    """Track the suspect exactly, then look for what is left of what was allocated meanwhile."""
    settings = Settings(exact=filter_of(task), slabinfo=False)
    try:
        with open_tracker(settings) as tracker:
            bpf_seconds = _watch(tracker, task.seconds)
            verified = _forget_freed(tracker)
            now = tracker.snapshot(details=True)
            return Report(found=_found(task, now, verified), bpf_seconds=bpf_seconds)
    except SlabmonError as error:
        return Report(error=str(error))


def _watch(tracker: Tracker, seconds: float) -> float:
    """Let the time pass; return the CPU time of the programs."""
    end = time.monotonic() + seconds
    share = _bpf_share(tracker)
    due = time.monotonic() + _READING_SECONDS
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(_DRAIN_SECONDS, left))
        tracker.drain()
        if time.monotonic() >= due:
            tracker.snapshot()
            due += _READING_SECONDS
    return share * seconds


def _bpf_share(tracker: Tracker) -> float:
    """Return the CPUs that the programs use, over _STATS_SECONDS; 0 if that cannot be measured."""
    with _statistics() as enabled:
        if not enabled:
            return 0.0
        before = _run_seconds(tracker)
        time.sleep(_STATS_SECONDS)
        return (_run_seconds(tracker) - before) / _STATS_SECONDS


@contextlib.contextmanager
def _statistics() -> Iterator[bool]:
    try:
        descriptor = syscall.enable_stats()
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _run_seconds(tracker: Tracker) -> float:
    programs = tracker.programs.programs.values()
    return sum(syscall.program_info(program).run_seconds for program in programs)


def _forget_freed(tracker: Tracker) -> bool:
    """Drop what was freed without an event. Return whether the slabs could be read for it."""
    try:
        tracker.forget_freed(_VERIFY_CPU_SECONDS)
    except SlabmonError:
        return False
    return True


def _found(task: Task, now: Snapshot, verified: bool) -> Examination:
    tracked = now.tracked
    age = OLD * task.seconds
    old = np.flatnonzero(tracked.age >= age)
    stacks = _stacks(now, old)
    return Examination(
        kind=task.kind,
        name=task.name,
        taken=now.taken,
        seconds=now.tracking.seconds,
        allocs=_allocs(task, now),
        age=age,
        survivors=len(old),
        survivor_bytes=int(tracked.bytes[old].sum()),
        verified=verified,
        stacks=stacks,
    )


def _allocs(task: Task, now: Snapshot) -> int:
    """Return the exact number of allocations of the suspect: counters do not know the filter."""
    if task.kind == "cache":
        return sum(cache.allocs for cache in now.caches if cache.name == task.name)
    return sum(site.allocs for site in now.sites if site.full_label == task.name)


def _stacks(now: Snapshot, rows: I64) -> tuple[SurvivingStack, ...]:
    """Return the sites and stacks of most of these objects, the largest first."""
    tracked = now.tracked
    key = tracked.site[rows] * (1 << 32) + tracked.stack[rows]
    keys = distinct(key)
    group = np.searchsorted(keys, key)
    size = np.bincount(group, tracked.bytes[rows], len(keys))
    found = []
    for number in np.argsort(-size, kind="stable")[:_STACKS].tolist():
        mine = rows[group == number]
        first = int(mine[0])
        stack = tracked.stacks.get(int(tracked.stack[first]), ())
        found.append(
            SurvivingStack(
                site=now.sites[int(tracked.site[first])].full_label,
                frames=tuple(stack[:_FRAMES]),
                process=escape(_most(tracked.comm[mine])),
                cgroup=tracked.cgroups.get(int(_most(tracked.cgroup[mine])), ""),
                objects=len(mine),
                bytes=int(size[number]),
            )
        )
    return tuple(found)


def _most(column: Values) -> Any:
    """Return the most frequent value."""
    values = distinct(column)
    return values[int(np.bincount(np.searchsorted(values, column)).argmax())]


def main() -> int:
    """Report on the socket."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.nice(_NICENESS)
    task = msgspec.json.decode(sys.argv[2], type=Task)
    with (
        contextlib.suppress(KeyboardInterrupt, ConnectionError),
        socket.socket(fileno=int(sys.argv[1])) as channel,
    ):
        channel.sendall(msgspec.msgpack.encode(examine(task)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
