# SPDX-License-Identifier: Apache-2.0
"""What interrupts allocate is not the interrupted process's: sockets that arrive over loopback."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from slabmon.analysis.contexts import live_by_context
from slabmon.analysis.grouping import group_live
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.probe import facts
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.model import Context, Snapshot, State
from tests.live.cgroups import own_cgroup

pytestmark = pytest.mark.live

CONNECTIONS = 211  # prime
SETTINGS = Settings(exact=Filter.parse("cache=TCPv6"))


@contextmanager
def connections(count: int) -> Iterator[None]:
    """Connect to a listener that accepts nothing. socket() allocates a socket in this process; that
    of the other end is allocated when the last packet of the handshake is received, in a softirq
    (tcp_v6_syn_recv_sock(), net/ipv6/tcp_ipv6.c)."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET6))
        listener.bind(("::1", 0))
        listener.listen(2 * count)
        for _ in range(count):
            client = stack.enter_context(socket.socket(socket.AF_INET6))
            client.connect(listener.getsockname())
        yield


def sockets(snapshot: Snapshot, *by: str) -> Counter[tuple[str, ...]]:
    """The live sockets by these dimensions."""
    return Counter({group.labels: group.live.objects for group in group_live(snapshot, by)})


def test_sockets_that_packets_make_belong_to_no_process() -> None:
    with open_tracker(SETTINGS) as tracker, connections(CONNECTIONS):
        snapshot = tracker.snapshot(details=True)
    assert tracker.features["context"].state == State.ON
    name = Path("/proc/self/comm").read_text().strip()
    assert sockets(snapshot, "context", "process", "pid", "cgroup") == {
        ("task", name, str(os.getpid()), own_cgroup()): CONNECTIONS + 1,
        ("softirq", "[softirq]", "[softirq]", "[softirq]"): CONNECTIONS,
    }
    live = live_by_context(snapshot)
    assert {context: row.objects for context, row in live.items()} == {
        Context.TASK: CONNECTIONS + 1,
        Context.SOFTIRQ: CONNECTIONS,
        Context.IRQ: 0,
        Context.NMI: 0,
    }


def test_without_the_preemption_count_stacks_tell_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without details: the stacks are read in either case."""
    known = replace(facts.probe(), per_cpu={}, offsets=_without_thread_info())
    monkeypatch.setattr(facts, "probe", lambda: known)
    with open_tracker(SETTINGS) as tracker, connections(CONNECTIONS):
        snapshots = tracker.snapshot(), tracker.snapshot(details=True)
    assert tracker.features["context"].state == State.DEGRADED
    for snapshot in snapshots:
        assert sockets(snapshot, "context") == {
            ("task",): CONNECTIONS + 1,
            ("softirq",): CONNECTIONS,
        }


def _without_thread_info() -> dict[str, int]:
    offsets = dict(facts.probe().offsets)
    offsets.pop("OFF_TASK_PREEMPT_COUNT", None)
    return offsets
