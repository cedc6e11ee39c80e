# SPDX-License-Identifier: Apache-2.0
"""The device ledger: every device's managed resources (devres).

Two sources that check each other. The walk reads all lists from kernel memory, at start and
whenever asked; devres_log events keep the ledger current in between. On kernels without the
event each reading is a walk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from slabmon.base.escape import escape
from slabmon.kernel.devres.walker import Names, Node, Walker, WalkError
from slabmon.model import Device, Release

_TRIES = 8
_GROUP_OPEN, _GROUP_CLOSE = "grp<", "grp>"
_GROUP_BYTES = 256  # more than a struct devres_group takes


class History(NamedTuple):
    """Names, resources added and removed of each device that gained or lost any; losses."""

    devices: tuple[tuple[Names, int, int], ...]
    disagreements: int
    failed_walks: int


class Ledger:
    """Devices and their resources now, and what was added and removed while tracking."""

    def __init__(self, walker: Walker, has_events: bool) -> None:
        self._walker = walker
        self._has_events = has_events
        self._devices: dict[int, Names] = {}
        self._nodes: dict[int, Node] = {}
        self._added: Counter[tuple[str, str]] = Counter()
        self._removed: Counter[tuple[str, str]] = Counter()
        self._seen: dict[tuple[str, str], Names] = {}
        self._stale = True
        self.disagreements = 0
        self.failed_walks = 0

    def history(self) -> History:
        """What a later process cannot find out by a walk."""
        keys = {**self._added, **self._removed}
        return History(
            tuple((self._seen[key], self._added[key], self._removed[key]) for key in keys),
            self.disagreements,
            self.failed_walks,
        )

    def recall(self, history: History) -> None:
        """Goes on counting where an earlier process was. The next walk finds the resources."""
        for names, added, removed in history.devices:
            self._seen[names[:2]] = names
            self._added[names[:2]] = added
            self._removed[names[:2]] = removed
        self.disagreements = history.disagreements
        self.failed_walks = history.failed_walks

    def apply(self, event: np.void) -> None:
        """Takes one devres_log event into account."""
        names = Names.of(event)
        key = names[:2]
        device, address, op = int(event["device"]), int(event["node"]), escape(event["op"])
        self._devices[device] = names
        self._seen[key] = names
        if op == "ADD":
            if address in self._nodes:
                self.disagreements += 1
            self._added[key] += 1
            self._nodes[address] = Node(
                device,
                escape(event["release"]),
                int(event["bytes"]),
                int(event["node_bytes"]),
                int(event["cache"]),
            )
        elif op in ("REM", "REL"):
            self._removed[key] += 1
            node = self._nodes.pop(address, None)
            if node is None:
                # A resource grown by devm_krealloc has no ADD: only a walk knows its node.
                self._stale = True
            elif node.release == _GROUP_OPEN:
                self._drop_group_end(address, node, key)
        else:  # REPLACE names the old node; the new one has no event
            self._nodes.pop(address, None)
            self._stale = True

    def _drop_group_end(self, address: int, begin: Node, key: tuple[str, str]) -> None:
        """The closing node of a group goes with the opening one, without an event: it was added,
        so it counts as removed. Both lie in one object; the next may be a group, too."""
        beyond = address + (begin.slab_bytes or _GROUP_BYTES)
        ends = [
            other
            for other, node in self._nodes.items()
            if address < other < beyond and node[:2] == (begin.device, _GROUP_CLOSE)
        ]
        if ends:
            del self._nodes[min(ends)]
            self._removed[key] += 1

    def mark_stale(self) -> None:
        """Events were lost: the next reconcile() takes the walk as it is."""
        self._stale = True

    def reconcile(self, drain: Callable[[], int]) -> None:
        """Walks all devices and compares, at a moment when no events arrive.

        `drain` applies pending events and returns how many there were. Differences are counted
        in `disagreements`, except where the ledger was known to be stale; then the walk holds.
        """
        for _ in range(_TRIES):
            drain()
            try:
                devices, nodes = self._walker.walk()
            except WalkError:
                self.failed_walks += 1
                return
            if not drain():
                break
        else:
            self._stale = True
            return
        if not self._stale and self._has_events:
            different = set(self._nodes) ^ set(nodes)
            different |= {
                a for a in set(self._nodes) & set(nodes) if self._nodes[a][:3] != nodes[a][:3]
            }
            self.disagreements += len(different)
        self._devices, self._nodes, self._stale = devices, nodes, False

    def refresh(self, drain: Callable[[], int]) -> None:
        """Brings the ledger up to date: from events, or by a walk where events do not serve."""
        drain()
        if self._stale or not self._has_events:
            self.reconcile(drain)

    def registered(self) -> list[Names]:
        """Every device the last walk found, those without resources included."""
        return list(self._devices.values())

    def devices(self, cache_name: Callable[[int], str]) -> tuple[Device, ...]:
        """Devices that hold, gained or lost resources, by subsystem and name."""
        held: dict[tuple[str, str], list[Node]] = {}
        names: dict[tuple[str, str], Names] = {
            key: self._seen[key] for key in (*self._added, *self._removed)
        }
        for node in self._nodes.values():
            name = self._devices.get(node.device)
            if name is not None:
                held.setdefault(name[:2], []).append(node)
                names[name[:2]] = name
        rows = []
        for key, name in sorted(names.items(), key=lambda item: item[0]):
            nodes = held.get(key, [])
            releases: dict[str, list[int]] = {}
            by_cache: Counter[str] = Counter()
            for node in nodes:
                releases.setdefault(node.release, []).append(node.bytes)
                if node.cache:
                    by_cache[cache_name(node.cache)] += node.slab_bytes
            rows.append(
                Device(
                    bus=name.bus,
                    name=name.name,
                    driver=name.driver,
                    module=name.module,
                    resources=len(nodes),
                    managed_bytes=sum(node.bytes for node in nodes),
                    slab_bytes=sum(by_cache.values()) if by_cache or not nodes else None,
                    added=self._added[key],
                    removed=self._removed[key],
                    by_release=tuple(
                        Release(release, len(sizes), sum(sizes))
                        for release, sizes in sorted(releases.items())
                    ),
                    slab_by_cache=dict(by_cache),
                )
            )
        return tuple(rows)
