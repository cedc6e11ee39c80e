# SPDX-License-Identifier: Apache-2.0
"""The walk over every registered device and its devres list, step by step in kernel memory."""

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
from slabmon.kernel.planning.plan import SEED, WALK

_TORN, _GONE = CONSTANTS["WALK_TORN"], CONSTANTS["WALK_GONE"]
_MAX_DEVICES, _MAX_STEPS, _TRIES = 200_000, 10_000, 8


class Names(NamedTuple):
    """What sysfs calls a device."""

    bus: str
    name: str
    driver: str | None
    module: str | None

    @classmethod
    def of(cls, record: np.void) -> Names:
        return cls(
            escape(record["bus"]),
            escape(record["name"]),
            escape(record["driver"]) or None,
            escape(record["module"]) or None,
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
            release = escape(raw["release"])
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
