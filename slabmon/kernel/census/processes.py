# SPDX-License-Identifier: Apache-2.0
"""Processes, as what may retain objects: their threads' task_structs, with the stacks."""

from __future__ import annotations

import numpy as np

from slabmon.base.escape import escape
from slabmon.kernel.census.heap import NONE, Heap
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.retainers import Named
from slabmon.kernel.census.stacks import tasks_of

_COMM_BYTES = 16
NEEDED = ("task.comm", "task.pid", "task.tgid")


def find(memory: Memory, layout: Layout, reading: Reading, heap: Heap) -> Named:
    """Find all processes, called NAME[PID]; threads of the kernel are processes. Raises
    UnsupportedHost."""
    layout.require("processes", *NEEDED)
    tasks = tasks_of(reading, heap)
    addresses = heap.addresses_of(tasks)
    pid, tgid = (
        memory.gather(addresses + np.uint64(layout[f"task.{name}"]), 4).view(np.int32)[:, 0]
        for name in ("pid", "tgid")
    )
    comms = memory.gather(addresses + np.uint64(layout["task.comm"]), _COMM_BYTES)
    groups, holder = np.unique(tgid, return_inverse=True)
    names = [""] * len(groups)
    for number, leads, comm in zip(holder.tolist(), (pid == tgid).tolist(), comms, strict=True):
        if leads or not names[number]:
            names[number] = escape(comm.tobytes().partition(b"\0")[0])
    return Named(
        names=tuple(f"{name}[{group}]" for name, group in zip(names, groups, strict=True)),
        parent=np.full(len(groups), NONE),
        depth=np.zeros(len(groups), np.int64),
        objects=tasks,
        holder=holder.reshape(-1).astype(np.int64),
    )
