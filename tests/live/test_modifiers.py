# SPDX-License-Identifier: Apache-2.0
"""GFP modifiers: of system calls whose allocations are known, and as ftrace counts them."""

from __future__ import annotations

import ctypes
import itertools
import os
import select
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from slabmon.analysis.grouping import group_live
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.model import Snapshot
from tests.live.kernel import event_counters
from tests.live.workload import messages

pytestmark = pytest.mark.live

N = 5003  # prime
MESSAGES, EPOLLS, PIPES, SIGNALS = 499, 211, 101, 307  # primes
LENGTH = 900
# More than a page: kvmalloc() tries kmalloc() with __GFP_NOWARN.
VALUE = ctypes.create_string_buffer(5003)
libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def blocked() -> Iterator[None]:
    """Keeps real-time signals of this thread queued; they are received at the end."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
    try:
        yield
    finally:
        while signal.sigtimedwait({signal.SIGRTMIN}, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def queue_signal() -> None:
    """One kmem_cache_alloc() of struct sigqueue with GFP_ATOMIC (kernel/signal.c)."""
    thread = ctypes.c_ulong(threading.get_ident())
    assert libc.pthread_sigqueue(thread, signal.SIGRTMIN, ctypes.c_void_p(0)) == 0


def signal_and_receive() -> None:
    queue_signal()
    signal.sigtimedwait({signal.SIGRTMIN}, 0)


def open_and_close_pipe() -> None:
    for end in os.pipe():
        os.close(end)


def set_no_attribute() -> None:
    """One kvmalloc() of the value, before the path turns out not to exist (fs/xattr.c)."""
    assert libc.setxattr(b"/nonexistent", b"user.slabmon", VALUE, len(VALUE), 0) == -1


def test_objects_of_known_calls_have_the_modifiers_of_their_source() -> None:
    """kzalloc() and kcalloc() with GFP_KERNEL_ACCOUNT for a pipe, kzalloc() for an epoll,
    GFP_ATOMIC for a signal, and GFP_KERNEL for a message, which its cache charges all the same."""
    exact = Settings(exact=Filter.parse(f"pid={os.getpid()}"))
    with messages() as queue, blocked(), open_tracker(exact) as tracker:
        for _ in range(MESSAGES):
            queue.send(LENGTH)
        for _ in range(SIGNALS):
            queue_signal()
        polls = [select.epoll() for _ in range(EPOLLS)]
        pipes = [os.pipe() for _ in range(PIPES)]
        snapshot = tracker.snapshot()
        for poll in polls:
            poll.close()
        for end in itertools.chain.from_iterable(pipes):
            os.close(end)
    live = Counter[tuple[str, str]]()
    for group in group_live(snapshot, ("site", "modifiers")):
        live[group.labels[0].partition("+")[0], group.labels[1]] += group.live.objects
    for sites, modifiers, count in (
        ({"alloc_pipe_info"}, "zero|account", 2 * PIPES),
        ({"load_msg", "alloc_msg"}, "[none]", MESSAGES),
        ({"do_epoll_create", "ep_alloc", "__x64_sys_epoll_create1"}, "zero", EPOLLS),
        ({"sigqueue_alloc", "__sigqueue_alloc", "__send_signal_locked"}, "high", SIGNALS),
    ):
        found = {key: number for key, number in live.items() if key[0] in sites}
        counts = {key[1]: number for key, number in found.items()}
        assert counts == {modifiers: count}, (live, snapshot.losses)


def counted(snapshot: Snapshot, modifier: str) -> int:
    """Allocations with a modifier, failed ones included, as ftrace's events."""
    (row,) = [row for row in snapshot.modifiers if row.name == modifier]
    return row.allocs + row.failed


@pytest.mark.parametrize(
    ("modifier", "bit", "call"),
    [
        ("zero", 0x100, lambda: select.epoll().close()),
        ("account", 0x400000, open_and_close_pipe),
        ("high", 0x20, signal_and_receive),
        ("nowarn", 0x2000, set_no_attribute),
    ],
)
def test_modifiers_agree_with_ftrace_over_the_same_window(
    modifier: str, bit: int, call: Callable[[], None]
) -> None:
    """slabmon's inner window must not count more than ftrace, nor its outer one less. The bits are
    those that no kernel moved (include/linux/gfp_types.h)."""
    events = ("kmalloc", "kmem_cache_alloc")
    with (
        blocked(),
        open_tracker(Settings()) as tracker,
        event_counters(*events, filter=f"gfp_flags & {bit:#x}") as trace,
    ):
        outer_start = tracker.snapshot()
        for counter in trace.values():
            counter.start()
        inner_start = tracker.snapshot()
        for _ in range(N):
            call()
        inner_end = tracker.snapshot()
        for counter in trace.values():
            counter.stop()
        outer_end = tracker.snapshot()
        seen = [counter.count() for counter in trace.values()]
    traced, dropped = (sum(column) for column in zip(*seen, strict=True))
    inner = counted(inner_end, modifier) - counted(inner_start, modifier)
    outer = counted(outer_end, modifier) - counted(outer_start, modifier)
    missed = sum(outer_end.losses[f"recursion_{event}"] for event in events)
    assert dropped == 0
    assert N <= inner <= traced <= outer + missed
