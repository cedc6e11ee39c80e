# SPDX-License-Identifier: Apache-2.0
"""The device ledger: the managed resources (devres) of every device.

Two sources check each other. A walk reads all lists from kernel memory, at start and on request;
devres_log events keep the ledger current in between. On kernels without the event every reading
is a walk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from slabmon.base.escape import escape
from slabmon.kernel.devres.walker import DeviceIdentity, Node, Placed, Walker, WalkError
from slabmon.model import Device, Release

_TRIES = 8
_GROUP_OPEN, _GROUP_CLOSE = "grp<", "grp>"
_GROUP_BYTES = 256  # more than a struct devres_group takes


class LedgerState(NamedTuple):
    """Counters a walk cannot restore.

    `devices` has the identity, the resources added and those removed of each device that gained
    or lost any.
    """

    devices: tuple[tuple[DeviceIdentity, int, int], ...]
    disagreements: int
    failed_walks: int


class Ledger:
    """Devices with their current resources, and resources added and removed while tracking.

    `disagreements` counts nodes on which a walk and the events differed, `failed_walks` walks
    that found no consistent state. `problem` is what the last walk failed of, or "".
    """

    def __init__(self, walker: Walker, has_events: bool) -> None:
        self._walker = walker
        self._has_events = has_events
        self._devices: dict[int, DeviceIdentity] = {}
        self._nodes: dict[int, Node] = {}
        self._added: Counter[tuple[str, str]] = Counter()
        self._removed: Counter[tuple[str, str]] = Counter()
        self._seen: dict[tuple[str, str], DeviceIdentity] = {}
        self._stale = True
        self.disagreements = 0
        self.failed_walks = 0
        self.problem = ""

    def state(self) -> LedgerState:
        """Return the counters for a later process."""
        keys = {**self._added, **self._removed}
        return LedgerState(
            tuple((self._seen[key], self._added[key], self._removed[key]) for key in keys),
            self.disagreements,
            self.failed_walks,
        )

    def restore(self, state: LedgerState) -> None:
        """Continue the counters of an earlier process. The next walk finds the resources."""
        for device, added, removed in state.devices:
            self._seen[device.key] = device
            self._added[device.key] = added
            self._removed[device.key] = removed
        self.disagreements = state.disagreements
        self.failed_walks = state.failed_walks

    def apply(self, event: np.void) -> None:
        """Apply one devres_log event, a record of DEVRES_EVENT."""
        identity = DeviceIdentity.of(event)
        key = identity.key
        device, address, op = int(event["device"]), int(event["node"]), escape(event["op"])
        self._devices[device] = identity
        self._seen[key] = identity
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
        """Remove the closing node of a group, which goes with the opening one without an event.

        Both lie in one object, and the next object may be a group, too.
        """
        end_of_object = address + (begin.slab_bytes or _GROUP_BYTES)
        ends = [
            other
            for other, node in self._nodes.items()
            if address < other < end_of_object and node[:2] == (begin.device, _GROUP_CLOSE)
        ]
        if ends:
            del self._nodes[min(ends)]
            self._removed[key] += 1

    def mark_stale(self) -> None:
        """Note that events were lost: the next reconcile() takes the walk as it is."""
        self._stale = True

    def reconcile(self, drain: Callable[[], int]) -> None:
        """Walk all devices and compare, at a moment when no events arrive.

        `drain` applies pending events and returns their number. Differences are counted in
        `disagreements` unless the ledger was known to be stale. The walk wins.
        """
        for _ in range(_TRIES):
            drain()
            try:
                devices, nodes = self._walker.walk()
            except WalkError as error:
                self.failed_walks += 1
                self.problem = str(error)
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
        self.problem = ""

    def refresh(self, drain: Callable[[], int]) -> None:
        """Bring the ledger up to date: from events, or by a walk where events do not suffice."""
        drain()
        if self._stale or not self._has_events:
            self.reconcile(drain)

    def registered(self) -> list[DeviceIdentity]:
        """Return every device of the last walk, those without resources included."""
        return list(self._devices.values())

    def placed(self) -> tuple[Placed, ...]:
        """Return where every device of the last walk is."""
        return self._walker.placed

    def managed_bytes(self) -> Counter[tuple[str, str]]:
        """Return the bytes of managed resources by bus and name of the device."""
        held: Counter[tuple[str, str]] = Counter()
        for node in self._nodes.values():
            identity = self._devices.get(node.device)
            if identity is not None:
                held[identity.key] += node.bytes
        return held

    def devices(self, cache_name: Callable[[int], str]) -> tuple[Device, ...]:
        """Return the devices that hold, gained or lost resources, by subsystem and name.

        `cache_name` turns a cache key into the name of its row.
        """
        nodes: dict[tuple[str, str], list[Node]] = {}
        identities = {key: self._seen[key] for key in (*self._added, *self._removed)}
        for node in self._nodes.values():
            identity = self._devices.get(node.device)
            if identity is not None:
                nodes.setdefault(identity.key, []).append(node)
                identities[identity.key] = identity
        return tuple(
            self._row(identity, nodes.get(key, []), cache_name)
            for key, identity in sorted(identities.items(), key=lambda item: item[0])
        )

    def _row(
        self, identity: DeviceIdentity, nodes: list[Node], cache_name: Callable[[int], str]
    ) -> Device:
        releases: dict[str, list[int]] = {}
        by_cache: Counter[str] = Counter()
        for node in nodes:
            releases.setdefault(node.release, []).append(node.bytes)
            if node.cache:
                by_cache[cache_name(node.cache)] += node.slab_bytes
        return Device(
            bus=identity.bus,
            name=identity.name,
            driver=identity.driver,
            module=identity.module,
            resources=len(nodes),
            managed_bytes=sum(node.bytes for node in nodes),
            slab_bytes=sum(by_cache.values()) if by_cache or not nodes else None,
            added=self._added[identity.key],
            removed=self._removed[identity.key],
            by_release=tuple(
                Release(release, len(sizes), sum(sizes))
                for release, sizes in sorted(releases.items())
            ),
            slab_by_cache=dict(by_cache),
        )
