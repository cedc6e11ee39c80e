# SPDX-License-Identifier: Apache-2.0
"""Exact counts against a workload of known size, on the running kernel."""

from __future__ import annotations

import os
import socket
from multiprocessing import get_context

import pytest

from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.model import Cache, Mode, Site, Snapshot
from tests.live.workload import HEADER, messages

pytestmark = pytest.mark.live

N = 10_007  # prime
HELD = 499  # prime
LENGTH = 900
BYTES = LENGTH + HEADER  # 948: the 1k bucket


def cache_of(snapshot: Snapshot) -> Cache:
    """The cache messages come from: a bucket of their own (6.11+), else an accounted kmalloc."""
    found = {cache.name: cache for cache in snapshot.caches}
    for name in ("msg_msg-1k", "kmalloc-cg-1k", "kmalloc-1k"):
        if name in found:
            return found[name]
    raise AssertionError("no 1k kmalloc cache")


def site_of(snapshot: Snapshot) -> Site:
    """alloc_msg(), inlined into load_msg() or not."""
    (site,) = [s for s in snapshot.sites if s.symbol in ("load_msg", "alloc_msg")]
    return site


def test_allocs_frees_and_bytes_of_a_known_workload_are_exact() -> None:
    with messages() as queue, open_tracker(Settings()) as tracker:
        before = tracker.snapshot()
        queue.churn(N, LENGTH)
        after = tracker.snapshot()
    cache, site = cache_of(after), site_of(after)
    old = {c.name: c for c in before.caches}[cache.name]
    assert cache.name == "msg_msg-1k", "another user of the cache would blur the count"
    assert (old.allocs, old.frees) == (0, 0)
    assert (cache.allocs, cache.frees, cache.failed) == (N, N, 0)
    assert cache.requested_bytes == N * BYTES
    assert cache.allocated_bytes == N * 1024
    assert cache.freed_bytes == N * 1024
    assert (site.allocs, site.requested_bytes, site.allocated_bytes) == (N, N * BYTES, N * 1024)
    assert site.module is None
    assert cache.accounted
    assert not any(count for reason, count in after.losses.items() if "recursion" not in reason)


def test_held_messages_are_live_objects_in_exact_mode() -> None:
    with (
        messages() as queue,
        open_tracker(Settings(exact=Filter.parse("cache=msg_msg-1k"))) as tracker,
    ):
        for _ in range(HELD):
            queue.send(LENGTH)
        held = tracker.snapshot()
        for _ in range(HELD - 101):
            queue.receive()
        rest = tracker.snapshot()
    live = cache_of(held).live
    assert (live.objects, live.bytes) == (HELD, HELD * 1024)
    assert (live.stderr_bytes, live.low_bytes, live.high_bytes) == (0, live.bytes, live.bytes)
    assert site_of(held).live == live
    assert held.tracking.mode == Mode.EXACT
    assert cache_of(rest).live.objects == 101
    assert sum(cache_of(rest).lifetimes) == HELD - 101
    assert all(row.live.objects == 0 for row in held.caches if row.name != "msg_msg-1k")


def test_what_was_allocated_and_freed_again_is_counted_by_stack() -> None:
    with (
        messages() as queue,
        open_tracker(Settings(exact=Filter.parse("cache=msg_msg-1k"))) as tracker,
    ):
        queue.churn(N, LENGTH)
        snapshot = tracker.snapshot(details=True)
    stacked, stacks = snapshot.stacked, snapshot.tracked.stacks
    rows = zip(stacked.stack.tolist(), stacked.bytes.tolist(), strict=True)
    assert sum(size for stack, size in rows if "do_msgsnd" in stacks.get(stack, ())) == N * 1024
    assert stacked.bytes.sum() == N * 1024
    assert not stacked.stderr.any()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("site=load_msg", HELD),
        ("cache=msg_msg-1k,min_size=949", 0),
        ("cache=msg_msg-1k,max_size=948", HELD),
        ("cache=msg_msg-2k", 0),
    ],
)
def test_exact_filters_select_by_site_and_size(text: str, expected: int) -> None:
    with messages() as queue, open_tracker(Settings(exact=Filter.parse(text))) as tracker:
        for _ in range(HELD):
            queue.send(LENGTH)
        snapshot = tracker.snapshot()
    assert cache_of(snapshot).live.objects == expected
    assert cache_of(snapshot).allocs == HELD, "counters do not depend on the filter"


@pytest.mark.parametrize("key", ["cache", "family"])
def test_exact_filters_select_by_alias_and_process(key: str) -> None:
    """The cache of unix sockets is merged with others of its size on most kernels."""
    text = f"{key}=UNIX,pid={os.getpid()}"
    with open_tracker(Settings(exact=Filter.parse(text))) as tracker:
        pairs = [socket.socketpair() for _ in range(101)]
        snapshot = tracker.snapshot()
        for pair in pairs:
            for end in pair:
                end.close()
    live = {row.name: row.live.objects for row in snapshot.caches if row.live.objects}
    assert list(live.values()) == [202]
    row = next(row for row in snapshot.caches if row.name in live)
    assert "UNIX" in (row.name, *row.aliases)


def test_sampled_estimate_covers_what_is_held() -> None:
    """One live run; the estimator's coverage is tested on simulated streams."""
    with messages() as queue, open_tracker(Settings(sample_bytes=4096)) as tracker:
        for _ in range(HELD):
            queue.send(LENGTH)
        snapshot = tracker.snapshot()
    live = cache_of(snapshot).live
    assert live.stderr_bytes > 0
    # Five standard errors: fails once in a million runs.
    assert abs(live.bytes - HELD * 1024) < 5 * live.stderr_bytes
    assert live.objects == pytest.approx(live.bytes / 1024, abs=1)


def _churn(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    with messages() as queue:
        queue.churn(N, LENGTH)


def test_all_cpus_at_once_lose_nothing() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    with open_tracker(Settings(sample_bytes=512)) as tracker:
        workers = [get_context("fork").Process(target=_churn, args=(cpu,)) for cpu in cpus]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
        snapshot = tracker.snapshot()
    cache = cache_of(snapshot)
    total = N * len(cpus)
    missed = snapshot.losses["recursion_kmalloc"]
    assert total - missed <= cache.allocs <= total
    assert total - snapshot.losses["recursion_kfree"] <= cache.frees <= total
    assert cache.live.objects <= snapshot.losses["recursion_kfree"], "a lost free of a sample"


def test_every_sampled_object_loses_its_mark_when_freed() -> None:
    """Sampling everything and freeing everything must leave the gate as empty as before."""
    with messages() as queue, open_tracker(Settings(sample_bytes=64)) as tracker:
        for _ in range(7):
            for _ in range(211):
                queue.send(LENGTH)
            for _ in range(211):
                queue.receive()
        cache = cache_of(tracker.snapshot())
    assert (cache.allocs, cache.frees, cache.live.objects) == (7 * 211, 7 * 211, 0)


def test_a_full_sample_table_is_counted_and_frees_stay_exact() -> None:
    sent = 10007
    settings = Settings(samples=4096, exact=Filter.parse("cache=msg_msg-64"))
    with messages() as queue, open_tracker(settings) as tracker:
        for _ in range(sent):
            queue.send(1)
        full = tracker.snapshot()
        for _ in range(sent):
            queue.receive()
        empty = tracker.snapshot()
    cache = {cache.name: cache for cache in full.caches}["msg_msg-64"]
    # Large kmallocs of others are always tracked and take places in the same table.
    assert full.losses["samples_full"] >= sent - tracker.plan.defines["NR_POOL"] > 0
    assert cache.live.objects + full.losses["samples_full"] >= sent
    assert {c.name: c for c in empty.caches}["msg_msg-64"].frees == sent
