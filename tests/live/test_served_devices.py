# SPDX-License-Identifier: Apache-2.0
"""Kernel stacks of packets that the loopback interface delivers lead to it, and to nothing else."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import suppress

import pytest

from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.model import Snapshot, State

pytestmark = pytest.mark.live

SETTINGS = Settings(sample_bytes=4096)
DATAGRAMS = 4000
# Handles packets that the loopback interface received, in a softirq.
DELIVERY = "process_backlog"
ANSWERS = "__icmp_send"  # to datagrams for a port that nobody has


def send_in_vain() -> None:
    """Send datagrams to a closed port of this host: each is answered by an ICMP message."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()
    for _ in range(DATAGRAMS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, suppress(OSError):
            sender.sendto(b"x" * 1000, closed)


def named(snapshot: Snapshot) -> Counter[tuple[str, str]]:
    """Tracked objects of answers that the loopback delivered, by device and evidence."""
    tracked = snapshot.tracked
    found = Counter[tuple[str, str]]()
    for stack, number in zip(tracked.stack.tolist(), tracked.device.tolist(), strict=True):
        if {DELIVERY, ANSWERS} <= set(tracked.stacks.get(stack, ())):
            device = tracked.devices.get(number)
            found[(device.label, device.known_by) if device else ("", "")] += 1
    return found


def test_stacks_of_delivered_packets_lead_to_the_loopback() -> None:
    """Errors that nobody reads keep their packets in the queues of sockets: objects stay."""
    with open_tracker(SETTINGS) as tracker:
        assert tracker.features["stack_devices"].state == State.ON
        sockets = []
        for _ in range(3):
            send_in_vain()
            tracker.reconcile_devices()
        led_to = Counter(
            (device.bus, device.name) for device in tracker._stack_devices.devices().values()
        )
        for _ in range(200):
            keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            keeper.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: errors are queued
            with suppress(OSError):
                keeper.connect(("127.0.0.1", 9))
                keeper.send(b"x" * 1000)
            sockets.append(keeper)
        snapshot = tracker.snapshot(details=True)
        for keeper in sockets:
            keeper.close()
    found = named(snapshot)
    print(f"stacks: {dict(led_to)}; objects: {dict(found)}")
    assert led_to["net", "lo"]
    assert not {label for label, _ in found} - {"", "net lo"}
