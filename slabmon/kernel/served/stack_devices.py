# SPDX-License-Identifier: Apache-2.0
"""The devices that kernel stacks lead to, from copies of what lies on them (bpf/stack_copies.h).

Functions lay out their part of a stack alike whenever one calls the other at the same place: in
each copy of one stack of calls, a pointer that is in use lies at the same offset. Words that
earlier calls left lie there too. So a stack leads to a device if
- at one offset or more, every copy has a pointer into the memory that leads to this device
  (containers.py), and no offset has one to another in every copy but to devices above it;
- there are enough copies: fewer if they are from two stacks in memory, which earlier calls used
  differently, or if one of the functions is of the module of the device's driver;
- the device was there before the copies were made and still is.
Even so it is only likely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field

import numpy as np

from slabmon.base.arrays import I64, U64
from slabmon.kernel.bpf.layout import CONSTANTS, STACK_COPY
from slabmon.kernel.devres.walker import DeviceIdentity
from slabmon.kernel.served.containers import NONE, Containers

_COPIES, _FEW_COPIES = CONSTANTS["STACK_COPIES"], CONSTANTS["STACK_COPIES"] // 2
_WORDS = (STACK_COPY.itemsize - CONSTANTS["STACK_BYTES"]) // 8  # before those of the stack
_STACK_SHIFT = 14  # THREAD_SIZE of x86-64 and arm64: copies with other upper bits are of two stacks

_Device = tuple[int, str, str]  # address, bus, name


def _there(containers: Containers) -> set[_Device]:
    return {(d.address, d.identity.bus, d.identity.name) for d in containers.placed}


@dataclass
class _Evidence:
    """What copies of one stack have in common: the address of the device that a word leads to, by
    its offset in words."""

    copies: int = 0
    stacks: set[int] = field(default_factory=set)
    found: dict[int, int] = field(default_factory=dict)
    device: DeviceIdentity | None = None  # as judged at the last walk

    def add(self, place: int, found: dict[int, int]) -> None:
        if self.copies:
            found = {at: device for at, device in self.found.items() if found.get(at) == device}
        self.found = found
        self.device = self.device if found else None
        self.copies += 1
        if len(self.stacks) < 2:
            self.stacks.add(place >> _STACK_SHIFT)


class StackDevices:
    """The stacks of one session, by stack id. `modules_of(stack)` are the modules on a stack."""

    def __init__(self, modules_of: Callable[[int], Set[str]]) -> None:
        self._modules_of = modules_of
        self._evidence: dict[int, _Evidence] = {}
        self._modules: dict[int, Set[str]] = {}  # by stack, read since the last walk
        self._containers: Containers | None = None

    def add(self, records: Iterable[bytes]) -> None:
        """Look at copies, records of STACK_COPY, made since the last call."""
        data = b"".join(records)
        if self._containers is None or not data:
            return
        copies = np.frombuffer(data, STACK_COPY)
        words: U64 = copies.view("<u8").reshape(len(copies), -1)[:, _WORDS:]
        devices = self._containers.find(words)
        for stack, place, row in zip(
            copies["stack"].tolist(), copies["place"].tolist(), devices, strict=True
        ):
            at = np.flatnonzero(row != NONE).tolist()
            found = {i: self._containers.placed[int(row[i])].address for i in at}
            self._evidence.setdefault(stack, _Evidence()).add(place, found)

    @property
    def undecided(self) -> bool:
        """Whether a walk over the devices would name one for some stack."""
        containers = self._containers
        return containers is not None and any(
            evidence.device is None and self._judge(stack, evidence, containers) is not None
            for stack, evidence in self._evidence.items()
        )

    def walked(self, containers: Containers) -> list[int]:
        """Judge all stacks by the devices that are there now, and were at the last walk. Return
        those of which new copies are needed."""
        anew = []
        if self._containers is not None:
            anew = self._follow(_there(self._containers), _there(containers))
        self._containers = containers
        self._modules.clear()
        for stack, evidence in self._evidence.items():
            evidence.device = self._judge(stack, evidence, containers)
        return anew

    def _judge(
        self, stack: int, evidence: _Evidence, containers: Containers
    ) -> DeviceIdentity | None:
        if not evidence.found or evidence.copies < _FEW_COPIES:
            return None
        device = containers.lowest_at(evidence.found.values())
        if device == NONE:
            return None
        if evidence.copies < _COPIES and len(evidence.stacks) < 2:
            chain = (containers.placed[i].identity for i in containers.chain(device))
            drivers = {identity.module for identity in chain if identity.module}
            if not drivers or not drivers & self._modules_on(stack):
                return None
        return containers.placed[device].identity

    def _modules_on(self, stack: int) -> Set[str]:
        if stack not in self._modules:
            self._modules[stack] = self._modules_of(stack)
        return self._modules[stack]

    def _follow(self, before: Set[_Device], now: Set[_Device]) -> list[int]:
        """Begin anew with stacks that led to devices which are gone: their memory may have become
        something else before that was seen. Those that led to none may lead to a new one."""
        gone = {address for address, *_ in before - now}
        anew = []
        for stack, evidence in list(self._evidence.items()):
            led_to = set(evidence.found.values())
            if gone & led_to or (not led_to and now - before):
                del self._evidence[stack]
                anew.append(stack)
        return anew

    def forget(self, ids: I64) -> None:
        """Forget stacks whose ids the kernel may give to others."""
        for stack in ids.tolist():
            self._evidence.pop(stack, None)
            self._modules.pop(stack, None)

    def devices(self) -> dict[int, DeviceIdentity]:
        """Return the devices that stacks lead to, by stack id."""
        return {
            stack: evidence.device
            for stack, evidence in self._evidence.items()
            if evidence.device is not None
        }
