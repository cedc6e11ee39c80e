"""Which NUMA node a CPU belongs to."""

from __future__ import annotations

from slabmon.kernel.facts import read_text


def node_of_cpu(nodes: int) -> dict[int, int]:
    """Node by CPU number, from sysfs."""
    own: dict[int, int] = {}
    for node in range(nodes):
        cpus = read_text(f"/sys/devices/system/node/node{node}/cpulist") or ""
        for part in filter(None, cpus.split(",")):
            first, _, last = part.partition("-")
            own |= dict.fromkeys(range(int(first), int(last or first) + 1), node)
    return own
