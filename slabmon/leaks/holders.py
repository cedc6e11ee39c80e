# SPDX-License-Identifier: Apache-2.0
"""Who allocated the survivors of a growth, and which of these processes still run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import F64, I64, Values, distinct
from slabmon.base.escape import escape
from slabmon.leaks.finding import Holders
from slabmon.model import Process, Snapshot

_NAMED = 3
# A process that started this much later than an object was born did not allocate it: its number is
# another's. The start of a process is known to a tick of the kernel's clock.
_TICK_NS = 10_000_000
_NEVER = 1 << 62
_GONE, _UNKNOWN = -1, -2


def process_key(process: Process) -> str:
    """Return what identifies a process: its number can be used again."""
    return f"{process.tgid}@{process.started_ns}"


@dataclass(frozen=True)
class Held:
    """The survivors that one running process allocated: how many objects they represent."""

    process: Process
    name: str
    objects: float


def find_holders(now: Snapshot, rows: I64, size: F64) -> Holders:
    """Return who allocated these tracked objects, which represent `size` bytes each: (rows,)."""
    tracked = now.tracked
    paths = share_by_cgroup(now, rows, size).items()
    containers = ((_container(now, path), share) for path, share in paths)
    stacks = (
        (tracked.stacks.get(number, ()), share)
        for number, share in _largest(tracked.stack[rows], size)
    )
    stack, stack_share = next((known for known in stacks if known[0]), ((), 0.0))
    return Holders(
        processes=_processes(now, rows, size),
        cgroups=_with_shares(paths),
        containers=_with_shares(containers),
        stack=stack,
        stack_share=stack_share,
    )


def _container(now: Snapshot, path: str) -> str:
    """Return the name of the container or pod that runs in a cgroup, "" if none does."""
    workload = now.workload(path)
    inside = workload.shown_container or workload.shown_pod
    return workload.label if inside else ""


def share_by_cgroup(now: Snapshot, rows: I64, size: F64) -> dict[str, float]:
    """Return the share of the bytes of these tracked objects by the path of the cgroup that
    allocated them, the largest first; without those of which the path is not known, and those that
    interrupts allocated."""
    paths = now.tracked.cgroups
    found = _largest(now.tracked.own_cgroup[rows], size)
    return {paths[number]: share for number, share in found if number in paths}


def _largest(column: Values, size: F64) -> list[tuple[int, float]]:
    """Return each value with its share of the bytes, the largest first."""
    values = distinct(column)
    total = np.bincount(np.searchsorted(values, column), size, len(values))
    order = np.argsort(-total, kind="stable")
    shares = total[order] / max(1.0, float(total.sum()))
    return list(zip(values[order].tolist(), shares.tolist(), strict=True))


def _with_shares(labels: Iterable[tuple[str, float]]) -> tuple[str, ...]:
    """Return the first labels, each with its share; those that are equal together."""
    sums: dict[str, float] = {}
    for label, share in labels:
        if label:
            sums[label] = sums.get(label, 0.0) + share
    ordered = sorted(sums.items(), key=lambda item: -item[1])[:_NAMED]
    return tuple(f"{label} {share:.0%}" for label, share in ordered)


def _processes(now: Snapshot, rows: I64, size: F64) -> tuple[str, ...]:
    """Return the processes that most bytes are of by name, those that are gone apart."""
    comm = now.tracked.process[rows]
    names = distinct(comm)
    gone = _runner(now, rows) == _GONE
    number = 2 * np.searchsorted(names, comm) + gone
    return _with_shares(
        (escape(names[value // 2]) + (" (gone)" if value % 2 else ""), share)
        for value, share in _largest(number, size)
    )


def _runner(now: Snapshot, rows: I64) -> I64:
    """Return the row in `processes` of the running process that allocated each object, _GONE if it
    does not run any more, _UNKNOWN if that is not known: (rows,)."""
    processes = now.processes or ()
    if not processes:
        return np.full(len(rows), _UNKNOWN)
    tgids = np.array([process.tgid for process in processes], np.int64)
    order = np.argsort(tgids)
    tgid = now.tracked.tgid[rows].astype(np.int64)
    place = order[np.minimum(np.searchsorted(tgids, tgid, sorter=order), len(tgids) - 1)]
    started = np.array(
        [_NEVER if each.started_ns is None else each.started_ns for each in processes], np.int64
    )[place]
    born = now.tracked.born_ns[rows].astype(np.int64)
    runner = np.where(started <= born + _TICK_NS, place, _GONE)
    known = (tgids[place] == tgid) & ~now.tracked.by_interrupt[rows]
    return np.where(known, runner, _UNKNOWN)


def held_by_running(now: Snapshot, rows: I64, weight: F64) -> list[Held]:
    """Return what each running process holds of these tracked objects, which represent `weight`
    objects each: (rows,). Empty if it is not known which processes run."""
    runner = _runner(now, rows)
    found = []
    for number in distinct(runner[runner >= 0]).tolist():
        mine = runner == number
        name = escape(now.tracked.comm[rows[mine][-1]])
        assert now.processes is not None
        found.append(Held(now.processes[number], name, float(weight[mine].sum())))
    return found
