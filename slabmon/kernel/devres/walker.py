# SPDX-License-Identifier: Apache-2.0
"""Walk over every registered device and its devres list, step by step in kernel memory."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from slabmon.base.escape import escape
from slabmon.kernel.bpf import maps, syscall
from slabmon.kernel.bpf.layout import CONSTANTS, WALK_DEVICE, WALK_NODE
from slabmon.kernel.loading.loader import Programs
from slabmon.kernel.programs import SEED, WALK

_TORN, _GONE = CONSTANTS["WALK_TORN"], CONSTANTS["WALK_GONE"]
_MAX_DEVICES, _MAX_STEPS, _TRIES = 200_000, 10_000, 8


class DeviceIdentity(NamedTuple):
    """A device as sysfs names it. `bus` is the bus, else the class, else ""."""

    bus: str
    name: str
    driver: str | None
    module: str | None

    @property
    def key(self) -> tuple[str, str]:
        """Bus and name: stays the same while drivers come and go."""
        return self.bus, self.name

    @classmethod
    def of(cls, record: np.void) -> DeviceIdentity:
        """Return the identity in a record of DEVRES_EVENT or WALK_DEVICE."""
        return cls(
            escape(record["bus"]),
            escape(record["name"]),
            escape(record["driver"]) or None,
            escape(record["module"]) or None,
        )


class Node(NamedTuple):
    """One managed resource.

    `device` is the device's address, `bytes` the devres size, `slab_bytes` the size of the slab
    object behind it, `cache` the key of that object's cache (0: not known).
    """

    device: int
    release: str
    bytes: int
    slab_bytes: int
    cache: int


class Placed(NamedTuple):
    """A registered device in memory: addresses of it, of its parent (0: none) and of its driver's
    data (0: none); `object_bytes` and `data_bytes` are the sizes of the slab objects that it and
    the data lie in (0: not known)."""

    identity: DeviceIdentity
    address: int
    parent: int
    object_bytes: int
    data: int
    data_bytes: int

    @classmethod
    def of(cls, address: int, record: np.void) -> Placed:
        """Return what a record of WALK_DEVICE says."""
        names = ("parent", "object_bytes", "data", "data_bytes")
        return cls(DeviceIdentity.of(record), address, *(int(record[name]) for name in names))


class WalkError(RuntimeError):
    """The lists kept changing, or no registered device was found to start from."""


class Walker:
    """Reads every registered device and its devres list."""

    def __init__(
        self, programs: Programs, release_of: Callable[[int], str], header: int, named: bool
    ) -> None:
        """Map the buffer of walk steps.

        Unless `named`, this kernel keeps no names and sizes of resources: `release_of` gives the
        name of a release function by address, and `header` is sizeof(struct devres) in bytes.
        """
        step = np.dtype([("device", WALK_DEVICE), ("nodes", WALK_NODE, CONSTANTS["WALK_NODES"])])
        self._step = maps.map_array(programs.maps["walks"], step, 1, writable=True)[0]
        self._programs = programs
        self._release_of = release_of
        self._header = header
        self._named = named
        self._start = 0
        self.placed: tuple[Placed, ...] = ()  # of the last complete walk

    def _find_start(self) -> int:
        """Return the address of any registered device: the device a datagram is sent through."""
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
        nodes = []
        for raw in step["nodes"][: int(step["device"]["count"])]:
            release = escape(raw["release"])
            size = int(raw["bytes"])
            if not self._named:
                release = self._release_of(int(raw["function"]))
                size = max(0, int(raw["node_bytes"]) - self._header)
            node = Node(address, release, size, int(raw["node_bytes"]), int(raw["cache"]))
            nodes.append((int(raw["node"]), node))
        return step["device"], nodes

    def _device(self, address: int) -> tuple[np.void, list[tuple[int, Node]]] | None:
        """Return one device with its whole list, or None if it is not registered any more."""
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

    def walk(self) -> tuple[dict[int, DeviceIdentity], dict[int, Node]]:
        """Return all devices and all nodes, both by address.

        Raises WalkError if no consistent state was seen.
        """
        for _ in range(_TRIES):
            first = self._device(self._start) if self._start else None
            if first is None:
                self._start = self._find_start()
                first = self._device(self._start)
            complete = self._walk_from(self._start, first)
            if complete is not None:
                placed, nodes = complete
                self.placed = tuple(placed)
                return {device.address: device.identity for device in placed}, nodes
        raise WalkError("the set of devices kept changing")

    def _walk_from(
        self, start: int, first: tuple[np.void, list[tuple[int, Node]]] | None
    ) -> tuple[list[Placed], dict[int, Node]] | None:
        """Follow the ring of devices from `start` until it closes; None if it does not."""
        devices: dict[int, Placed] = {}
        nodes: dict[int, Node] = {}
        address, step = start, first
        kset = first[0]["kset"] if first else 0
        while step is not None and step[0]["kset"] == kset and len(devices) < _MAX_DEVICES:
            head, device_nodes = step
            devices[address] = Placed.of(address, head)
            nodes.update(device_nodes)
            address = int(head["next"])
            if address == start:
                return list(devices.values()), nodes
            if address in devices:
                return None
            step = self._device(address)
        return None
