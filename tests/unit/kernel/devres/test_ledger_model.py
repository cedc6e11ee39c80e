# SPDX-License-Identifier: Apache-2.0
"""The ledger against a model of devres lists: any sequence of operations, events lost or not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slabmon.kernel.devres.ledger import Ledger
from slabmon.kernel.devres.walker import DeviceIdentity, Node, Walker
from slabmon.model import Device
from tests.support.records import devres_event

DEVICES = (0xD000, 0xD100, 0xD200)


@dataclass
class Kernel:
    """Each device's resources by address, and the events that tell of changes."""

    nodes: dict[int, Node] = field(default_factory=dict)
    events: list[np.void] = field(default_factory=list)
    added: Counter[int] = field(default_factory=Counter)
    removed: Counter[int] = field(default_factory=Counter)
    _next: int = 0x10000

    def _log(self, op: bytes, address: int, node: Node) -> None:
        self.events.append(
            devres_event(op, address, node.device, bytes=node.bytes, release=node.release.encode())
        )

    def _place(self, device: int, release: str, size: int) -> int:
        self._next += 64  # one object after the other, as in a slab
        self.nodes[self._next] = Node(device, release, size, 64, 0xCA00)
        return self._next

    def add(self, device: int, size: int) -> None:
        address = self._place(device, "devm_kzalloc_release", size)
        self._log(b"ADD", address, self.nodes[address])
        self.added[device] += 1

    def _pick(self, device: int, choice: int, release: str = "devm_kzalloc_release") -> int | None:
        there = [a for a, n in self.nodes.items() if (n.device, n.release) == (device, release)]
        return there[choice % len(there)] if there else None

    def remove(self, device: int, choice: int) -> None:
        address = self._pick(device, choice)
        if address is not None:
            self._log(b"REM", address, self.nodes.pop(address))
            self.removed[device] += 1

    def grow(self, device: int, choice: int) -> None:
        """devm_krealloc: REPLACE of the old node; the new one has no event."""
        address = self._pick(device, choice)
        if address is not None:
            old = self.nodes.pop(address)
            self._log(b"REPLACE", address, old)
            self._place(device, "devm_kzalloc_release", old.bytes * 2)

    def group(self, device: int, _: int) -> None:
        address = self._place(device, "grp<", 0)
        end = address + 40
        self.nodes[end] = Node(device, "grp>", 0, 64, 0xCA00)
        for node in (address, end):
            self._log(b"ADD", node, self.nodes[node])
        self.added[device] += 2

    def ungroup(self, device: int, choice: int) -> None:
        address = self._pick(device, choice, "grp<")
        if address is not None:
            self._log(b"REL", address, self.nodes.pop(address))
            del self.nodes[address + 40]
            self.removed[device] += 2

    def walk(self) -> tuple[dict[int, DeviceIdentity], dict[int, Node]]:
        devices = {d: DeviceIdentity("platform", f"dev{d:x}", "driver", "module") for d in DEVICES}
        return devices, dict(self.nodes)


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "remove", "grow", "group", "ungroup", "read", "walk"]),
        st.sampled_from(DEVICES),
        st.integers(1, 200),
    ),
    max_size=40,
)


class Session:
    """A ledger over a kernel; events wait until they are drained."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.ledger = Ledger(cast(Walker, self.kernel), has_events=True)
        self.ledger.reconcile(self.drain)

    def drain(self) -> int:
        events, self.kernel.events = self.kernel.events, []
        for event in events:
            self.ledger.apply(event)
        return len(events)

    def play(self, steps: list[Step]) -> None:
        for action, device, number in steps:
            if action == "read":
                self.ledger.refresh(self.drain)
            elif action == "walk":
                self.ledger.reconcile(self.drain)
            else:
                getattr(self.kernel, action)(device, number)

    def rows(self) -> dict[str, Device]:
        self.ledger.refresh(self.drain)
        return {row.name: row for row in self.ledger.devices(str)}


def check_against_kernel(session: Session) -> None:
    rows = session.rows()
    for device in DEVICES:
        nodes = [node for node in session.kernel.nodes.values() if node.device == device]
        row = rows.get(f"dev{device:x}")
        assert (row.resources if row else 0) == len(nodes)
        assert (row.managed_bytes if row else 0) == sum(node.bytes for node in nodes)
        if row:
            assert sum(release.resources for release in row.by_release) == row.resources
            assert sum(release.bytes for release in row.by_release) == row.managed_bytes


@given(STEPS)
def test_the_ledger_holds_what_the_kernel_holds(steps: list[Step]) -> None:
    session = Session()
    session.play(steps)
    check_against_kernel(session)


@given(STEPS)
def test_what_came_less_what_went_is_there(steps: list[Step]) -> None:
    """Also where a resource goes without an event of its own: the end of a group."""
    session = Session()
    session.play(steps)
    rows = session.rows()
    for device in DEVICES:
        row = rows.get(f"dev{device:x}")
        counted = (row.added, row.removed) if row else (0, 0)
        assert counted == (session.kernel.added[device], session.kernel.removed[device])
        assert (row.resources if row else 0) == counted[0] - counted[1]


@given(STEPS)
def test_ledger_and_walk_never_disagree_while_no_event_is_lost(steps: list[Step]) -> None:
    session = Session()
    session.play(steps)
    session.ledger.reconcile(session.drain)
    assert session.ledger.disagreements == 0


@given(STEPS, STEPS)
def test_after_lost_events_the_ledger_recovers(before: list[Step], after: list[Step]) -> None:
    session = Session()
    session.play(before)
    session.kernel.events.clear()
    session.ledger.mark_stale()
    session.play(after)
    check_against_kernel(session)
    assert session.ledger.disagreements == 0
