# SPDX-License-Identifier: Apache-2.0
"""The summary in words: exact wording, for these words are what people act on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slabmon.model import FeatureState, Live, Release, Slabinfo, State, Tracking
from slabmon.report import paths, summary
from slabmon.report.selection import ReportPeriod
from slabmon.report.weights import changed
from slabmon.store.recording import Moment
from tests.support.builders import Object, cache, device, site, snapshot, tracked, window_of
from tests.support.reported import SOME, host, report_period


def text(found: object) -> str:
    """All sentences in one."""
    if isinstance(found, summary.Sentence):
        return found.text
    return " ".join(sentence.text for sentence in found)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["a", "b", "c", "d"], "a, b, c and 1 other"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 others"),
    ],
)
def test_lists(parts: list[str], wanted: str) -> None:
    assert summary.listed(parts) == wanted


def test_slabs() -> None:
    rows = tuple(
        cache(name, slabinfo=Slabinfo(1, 1, 64, size))
        for name, size in (
            ("dentry", 3 << 20),
            ("inode", 2 << 20),
            ("kmalloc-8", 4096),
            ("tiny", 0),
        )
    )
    assert text(summary.slab_memory(snapshot(caches=rows))) == (
        "All slabs of this host take 5.0 MiB, in 4 caches, whoever allocated them and whenever; "
        "the largest are dentry (3.0 MiB), inode (2.0 MiB) and kmalloc-8 (4.0 KiB)."
    )
    assert "is not known" in text(summary.slab_memory(snapshot(caches=(cache(),))))


def test_live_memory_comes_with_its_confidence() -> None:
    found = text(summary.live_memory(host(SOME)))
    assert found.startswith("Of what was allocated in the 1m00s since tracking began, 320.2 KiB is")
    assert "still held (with 95 % confidence from 1" in found
    assert (
        "The caches that hold most of it: dentry (128.2 KiB, 40%), kmalloc-64 (128.1 KiB" in found
    )
    assert "The call sites that hold most of it: d_alloc+0x20 (128.2 KiB, 40%), " in found


def test_exact_memory_has_none() -> None:
    plain = host([Object(bytes=64)])
    exact = replace(plain, tracking=Tracking(0.0, 5.0, "exact", 0))
    assert "64 B is still held (exactly)" in text(summary.live_memory(exact))
    assert "its figures are exact as far as frees can be seen" in text(summary.sampling(exact))


def test_devices() -> None:
    card = device(
        name="card0",
        resources=3,
        managed_bytes=4096,
        slab_bytes=8192,
        by_release=(Release("devm_kmalloc_release", 3, 4096),),
    )
    loose = device("", "loose", driver=None, resources=1, managed_bytes=10, slab_bytes=None)
    walked = {"device_inventory": FeatureState(State.ON, "")}
    found = snapshot(devices=(loose, card), features=walked)
    assert text(summary.device_memory(found)) == (
        "2 devices hold 4 managed resources of 4.0 KiB, which occupy 8.0 KiB of slab memory as "
        "far as it is known (of 1 of them): all of them, also those from before tracking began. "
        "The most is held by card0 (virtio-pci, 4.0 KiB) and loose (no driver, 10 B)."
    )
    blind = text(summary.device_memory(replace(found, features={})))
    assert "those added while tracked, for older ones could not be read" in blind
    assert text(summary.device_memory(snapshot(devices=()))) == (
        "No device is known to hold managed (devres) resources."
    )


def test_changes() -> None:
    before, now = host(SOME[:4], 60), host(SOME, 120)
    change = paths.live_paths(changed(before, now))
    assert text(summary.changes(before, now, change)) == (
        "In the 1m00s between the two moments 0 B were allocated and 0 B were freed, in part what "
        "had been allocated before. Of what was allocated while tracked, the live part changed by "
        "+64.1 KiB (± 64.0 KiB, no more than chance explains)."
    )


def window(start: int, end: int, error: int) -> ReportPeriod:
    """A cache that grew between two moments."""
    first, last = (
        snapshot(
            caches=(cache("dentry", live=Live(1, size, error, size, size)),),
            sites=(site(),),
            devices=(),
            tracking=Tracking(0.0, seconds, "sampled", 65536),
        )
        for size, seconds in ((start, 60.0), (end, 660.0))
    )
    return ReportPeriod("a test", Moment(0.0, last), None, window_of(first, last))


def test_growth_says_whether_it_can_be_chance() -> None:
    begin = "In the last 10m00s the cache that grew most: dentry by 4.0 MiB"
    assert text(summary.growth(window(1 << 20, 5 << 20, 100 << 10))) == f"{begin} (± 141.4 KiB)."
    assert text(summary.growth(window(1 << 20, 5 << 20, 3 << 20))) == (
        f"{begin} (± 4.2 MiB, no more than chance explains)."
    )
    assert text(summary.growth(window(1 << 20, 5 << 20, 0))) == f"{begin}."
    assert text(summary.growth(window(1 << 20, 1 << 20, 0))) == (
        "In the last 10m00s no cache, call site or device grew."
    )


def test_growth_takes_two_moments() -> None:
    assert text(summary.growth(report_period(host(SOME)))) == (
        "What grew is not known: that takes two moments. Record for a while, or give --seconds."
    )


def test_counters() -> None:
    row = cache(allocs=1_000, allocated_bytes=4096, requested_bytes=3072, failed=3)
    assert text(summary.counters(snapshot(caches=(row,)))) == (
        "1,000 allocations of 4.0 KiB were counted, one by one; 25.0% of these bytes nobody asked "
        "for; 3 failed."
    )
    assert text(summary.counters(snapshot(caches=()))) == (
        "0 allocations of 0 B were counted, one by one; none failed."
    )


def test_losses() -> None:
    assert text(summary.losses(snapshot(losses={"samples_full": 0}))) == "No event was lost."
    lost = snapshot(losses={"samples_full": 2, "nesting": 1_000, "events_full": 0})
    assert text(summary.losses(lost)) == (
        "1,002 losses since tracking began, against 110 that were counted: nesting (1,000) and "
        "samples_full (2). Counters can be short by as much, and what was freed unseen is still "
        "held here."
    )


def test_what_cannot_be_seen() -> None:
    found = snapshot(
        caches=(cache("dentry"), cache("skbuff", frees_observable=False)),
        devices=(device(slab_bytes=None),),
        tracked=tracked([Object(stack=-1), Object(stack=2)], {2: ("a",)}),
    )
    assert text(summary.unseen(found)) == (
        "Not all frees can be seen in 1 cache (skbuff): live figures there are upper bounds, and "
        "growth is no sign of a leak. The kernel stack is missing for 1 of 2 tracked objects: of "
        "them only the call site is known. What the resources of 1 device occupy in slabs is not "
        "known."
    )
    everything = snapshot(caches=(cache(),), devices=(), tracked=tracked())
    assert text(summary.unseen(everything)) == ""


def test_capabilities() -> None:
    state = {
        "a": FeatureState(State.ON, ""),
        "b": FeatureState(State.OFF, "x"),
        "c": FeatureState(State.DEGRADED, "y"),
    }
    assert text(summary.features(snapshot(features=state))) == (
        "2 capabilities not fully on: b and c; the reasons are below."
    )
    assert text(summary.features(snapshot(features={}))) == ""
