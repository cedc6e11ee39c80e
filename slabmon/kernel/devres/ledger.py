"""The device ledger: every device's managed resources (devres).

Two sources that check each other. The walk reads all lists from kernel memory, at start and
whenever asked; devres_log events keep the ledger current in between. On kernels without the
event each reading is a walk.
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from slabmon.base.escape import text
from slabmon.kernel.bpf import maps, syscall
from slabmon.kernel.bpf.layout import CONSTANTS, WALK_DEVICE, WALK_NODE
from slabmon.kernel.loading.loader import Programs
from slabmon.kernel.planning.plan import SEED, WALK
from slabmon.model import Device, Release

_TORN, _GONE = CONSTANTS["WALK_TORN"], CONSTANTS["WALK_GONE"]
_MAX_DEVICES, _MAX_STEPS, _TRIES = 200_000, 10_000, 8
_GROUP_OPEN, _GROUP_CLOSE = "grp<", "grp>"
_GROUP_BYTES = 256  # more than a struct devres_group takes


class Names(NamedTuple):
    """What sysfs calls a device."""

    bus: str
    name: str
    driver: str | None
    module: str | None

    @classmethod
    def of(cls, record: np.void) -> Names:
        return cls(
            text(record["bus"]),
            text(record["name"]),
            text(record["driver"]) or None,
            text(record["module"]) or None,
        )


class Node(NamedTuple):
    """One managed resource. `bytes`: devres size; `slab_bytes`: of the object behind it, in the
    cache of this key (0: none known)."""

    device: int
    release: str
    bytes: int
    slab_bytes: int
    cache: int


class WalkError(RuntimeError):
    """The lists kept changing, or no way in was found."""


class Walker:
    """Reads every registered device and its devres list."""

    def __init__(
        self, programs: Programs, release_of: Callable[[int], str], header: int, named: bool
    ) -> None:
        step = np.dtype([("device", WALK_DEVICE), ("nodes", WALK_NODE, CONSTANTS["WALK_NODES"])])
        self._step = maps.map_array(programs.maps["walks"], step, 1, writable=True)[0]
        self._programs = programs
        self._release_of = release_of
        self._header = header
        self._named = named
        self._start = 0

    def _find_start(self) -> int:
        """Any registered device: the network device of a datagram sent to the loopback."""
        device = self._step["device"]
        device["next"] = 0
        with self._programs.attached("net_dev_queue", SEED):
            for _ in range(3):
                with (
                    contextlib.suppress(OSError),
                    socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
                ):
                    sender.sendto(b"", ("127.0.0.1", 9))
                if device["next"]:
                    return int(device["next"])
        raise WalkError("no packet could be sent to 127.0.0.1; is the loopback interface up?")

    def _read(self, address: int, cursor: int) -> tuple[np.void, list[tuple[int, Node]]]:
        syscall.run(self._programs.programs[WALK], address, cursor)
        step = self._step.copy()
        found = []
        for raw in step["nodes"][: int(step["device"]["count"])]:
            release = text(raw["release"])
            size = int(raw["bytes"])
            if not self._named:
                release = self._release_of(int(raw["function"]))
                size = max(0, int(raw["node_bytes"]) - self._header)
            node = Node(address, release, size, int(raw["node_bytes"]), int(raw["cache"]))
            found.append((int(raw["node"]), node))
        return step["device"], found

    def _device(self, address: int) -> tuple[np.void, list[tuple[int, Node]]] | None:
        """One device, its list read in one piece; None when it is not registered any more."""
        for _ in range(_TRIES):
            head, nodes = self._read(address, 0)
            for _ in range(_MAX_STEPS):
                if head["status"] or not head["cursor"]:
                    break
                head, more = self._read(address, int(head["cursor"]))
                nodes += more
            if head["status"] == _GONE:
                return None
            if head["status"] != _TORN:
                return head, nodes
        raise WalkError("a device's list of resources kept changing")

    def walk(self) -> tuple[dict[int, Names], dict[int, Node]]:
        """All devices by address and all nodes by address."""
        for _ in range(_TRIES):
            first = self._device(self._start) if self._start else None
            if first is None:
                self._start = self._find_start()
                first = self._device(self._start)
            complete = self._walk_from(self._start, first)
            if complete is not None:
                return complete
        raise WalkError("the set of devices kept changing")

    def _walk_from(
        self, start: int, found: tuple[np.void, list[tuple[int, Node]]] | None
    ) -> tuple[dict[int, Names], dict[int, Node]] | None:
        devices: dict[int, Names] = {}
        nodes: dict[int, Node] = {}
        address = start
        kset = found[0]["kset"] if found else 0
        while found is not None and found[0]["kset"] == kset and len(devices) < _MAX_DEVICES:
            devices[address] = Names.of(found[0])
            nodes.update(found[1])
            address = int(found[0]["next"])
            if address == start:
                return devices, nodes
            if address in devices:
                return None
            found = self._device(address)
        return None


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
        device, address, op = int(event["device"]), int(event["node"]), text(event["op"])
        self._devices[device] = names
        self._seen[key] = names
        if op == "ADD":
            if address in self._nodes:
                self.disagreements += 1
            self._added[key] += 1
            self._nodes[address] = Node(
                device,
                text(event["release"]),
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
