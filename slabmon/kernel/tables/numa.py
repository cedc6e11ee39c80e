# SPDX-License-Identifier: Apache-2.0
"""NUMA nodes: which CPU belongs to which, and what each was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from slabmon.kernel.probe.facts import read_text
from slabmon.kernel.tables import assemble
from slabmon.kernel.tables.lanes import Allocations
from slabmon.model import NodeUse


def node_of_cpu(nodes: int) -> dict[int, int]:
    """Node by CPU number, from sysfs."""
    own: dict[int, int] = {}
    for node in range(nodes):
        cpus = read_text(f"/sys/devices/system/node/node{node}/cpulist") or ""
        for part in filter(None, cpus.split(",")):
            first, _, last = part.partition("-")
            own |= dict.fromkeys(range(int(first), int(last or first) + 1), node)
    return own


def node_uses(
    nodes: int,
    by_cpu: Callable[[], Iterable[Allocations]],
    rows: Callable[[Allocations], assemble.Rows],
) -> tuple[NodeUse, ...]:
    """Allocations by node; nothing is read where there is only one."""
    if nodes < 2:
        return ()
    own = node_of_cpu(nodes)
    return assemble.node_rows((own.get(cpu, 0), rows(a)) for cpu, a in enumerate(by_cpu()))
