# SPDX-License-Identifier: Apache-2.0
"""The event loop: order of timers, sockets, signals, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from slabmon.runtime.event_loop import EventLoop
from tests.support.children import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def loop(clock: ManualClock) -> Iterator[EventLoop]:
    with EventLoop(clock) as result:
        yield result


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    first, second = socket.socketpair()
    with first, second:
        first.setblocking(False)
        yield first, second


def test_timers_run_when_due_in_the_order_of_time_then_of_calls(
    loop: EventLoop, clock: ManualClock
) -> None:
    seen: list[tuple[str, float]] = []
    for name, seconds in (("c", 3), ("a", 1), ("b", 1), ("now", 0)):
        loop.later(seconds, lambda name=name: seen.append((name, clock.now)))  # type: ignore[misc]
    clock.run(loop, 2)
    assert [name for name, _ in seen] == ["now", "a", "b"]
    assert [when for _, when in seen] == pytest.approx([1000, 1001, 1001])
    clock.run(loop, 2)
    assert [name for name, _ in seen] == ["now", "a", "b", "c"]


def test_a_period_begins_when_the_callback_returns(loop: EventLoop, clock: ManualClock) -> None:
    """A callback that takes longer than its period does not run twice in a row."""
    runs: list[float] = []

    def slow() -> None:
        runs.append(clock.now)
        clock.now += 5

    loop.every(1, slow)
    clock.run(loop, 12)
    assert runs == pytest.approx([1001, 1007])


def test_a_readable_socket_is_reported_until_it_is_unwatched(
    loop: EventLoop, clock: ManualClock, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, other = pair
    data: list[bytes] = []
    loop.watch(ours, lambda: data.append(ours.recv(1)))
    other.sendall(b"ab")
    loop.step(0)
    loop.step(0)
    assert data == [b"a", b"b"]
    loop.unwatch(ours)
    loop.unwatch(ours)
    other.sendall(b"c")
    clock.run(loop, 1)
    assert data == [b"a", b"b"]


def test_watching_again_replaces_the_callback(
    loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, other = pair
    seen: list[str] = []
    loop.watch(ours, lambda: seen.append("readable"))
    loop.watch(ours, lambda: seen.append("writable"), writable=True)
    other.sendall(b"a")
    loop.step(0)
    assert seen == ["writable"]


def test_a_socket_unwatched_by_an_earlier_callback_of_the_same_step_is_not_reported(
    loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    first, second = pair
    seen: list[socket.socket] = []

    def only(mine: socket.socket, other: socket.socket) -> None:
        seen.append(mine)
        loop.unwatch(other)

    loop.watch(first, lambda: only(first, second))
    loop.watch(second, lambda: only(second, first))
    first.sendall(b"a")
    second.sendall(b"a")
    loop.step(0)
    loop.step(0)
    assert len(set(map(id, seen))) == 1


def test_signals_are_callbacks_like_others(loop: EventLoop, clock: ManualClock) -> None:
    seen: list[str] = []

    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        seen.append("after the signal, in the callback that was running")

    loop.on_signal(signal.SIGUSR1, lambda: seen.append("signal"))
    loop.later(0, interrupted)
    clock.run(loop)
    assert seen == ["after the signal, in the callback that was running", "signal"]


def test_signals_have_their_default_action_again_after_close(clock: ManualClock) -> None:
    with EventLoop(clock) as loop:
        loop.on_signal(signal.SIGUSR1, lambda: None)
        assert signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_stop_ends_run_after_the_current_callback(
    loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    seen: list[str] = []

    def stop() -> None:
        loop.stop()
        seen.append("stopped")

    loop.later(0, stop)
    loop.later(0, lambda: seen.append("later"))
    loop.run()
    assert seen == ["stopped"]


def test_an_exception_of_a_callback_ends_run(loop: EventLoop) -> None:
    def fail() -> None:
        raise RuntimeError("of a callback")

    loop.later(0, fail)
    with pytest.raises(RuntimeError, match="of a callback"):
        loop.run()


def test_a_step_waits_no_longer_than_asked() -> None:
    with EventLoop() as loop:
        loop.later(3600, lambda: None)
        before = loop.time()
        loop.step(0.01)
        assert 0.005 < loop.time() - before < 5
