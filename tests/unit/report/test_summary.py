# SPDX-License-Identifier: Apache-2.0
"""The summary in words: exact wording, for these words are what people act on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slabmon.analysis import paths
from slabmon.analysis.weights import changed
from slabmon.model import FeatureState, Live, Mode, Release, Slabinfo, State, Tracking
from slabmon.report import summary
from slabmon.report.selection import ReportPeriod
from slabmon.store.recording import TimedSnapshot
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
        "All slabs of this host take 5.0 MiB in 4 caches, including what was allocated before "
        "tracking began. The largest: dentry (3.0 MiB), inode (2.0 MiB) and kmalloc-8 (4.0 KiB)."
    )
    assert "is unknown" in text(summary.slab_memory(snapshot(caches=(cache(),))))


def test_live_memory_comes_with_its_confidence() -> None:
    found = text(summary.live_memory(host(SOME)))
    assert found.startswith("320.2 KiB of the memory allocated in the 1m00s since tracking began")
    assert "is live (95 % confidence interval 1" in found
    assert "The caches with most of it: dentry (128.2 KiB, 40%), kmalloc-64 (128.1 KiB" in found
    assert "The call sites with most of it: d_alloc+0x20 (128.2 KiB, 40%), " in found


def test_exact_memory_has_none() -> None:
    plain = host([Object(bytes=64)])
    exact = replace(plain, tracking=Tracking(0.0, 5.0, Mode.EXACT, 0))
    assert "is live (exact)" in text(summary.live_memory(exact))
    assert "its figures are exact where all frees can be observed" in text(summary.sampling(exact))


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
        "2 devices hold 4 managed resources of 4.0 KiB, including those allocated before tracking "
        "began. Slab objects behind the resources take 8.0 KiB, known for 1 of 2 devices. The "
        "largest: card0 (virtio-pci, 4.0 KiB) and loose (no driver, 10 B)."
    )
    blind = text(summary.device_memory(replace(found, features={})))
    assert "without those allocated before tracking began, which could not be read" in blind
    assert text(summary.device_memory(snapshot(devices=()))) == (
        "No device holds managed (devres) resources, as far as they could be read."
    )


def test_changes() -> None:
    before, now = host(SOME[:4], 60), host(SOME, 120)
    change = paths.live_paths(changed(before, now))
    assert text(summary.changes(before, now, change)) == (
        "In the 1m00s between the two moments 0 B was allocated and 0 B was freed, some of it "
        "allocated earlier. Live memory changed by +64.1 KiB (± 64.0 KiB, not significant)."
    )


def window(start: int, end: int, error: int) -> ReportPeriod:
    """A cache that grew between two moments."""
    first, last = (
        snapshot(
            caches=(cache("dentry", live=Live(1, size, error, size, size)),),
            sites=(site(),),
            devices=(),
            tracking=Tracking(0.0, seconds, Mode.SAMPLED, 65536),
        )
        for size, seconds in ((start, 60.0), (end, 660.0))
    )
    return ReportPeriod("a test", TimedSnapshot(0.0, last), None, window_of(first, last))


def test_growth_says_whether_it_can_be_chance() -> None:
    begin = "The cache that grew most in the last 10m00s: dentry by 4.0 MiB"
    assert text(summary.growth(window(1 << 20, 5 << 20, 100 << 10))) == f"{begin} (± 141.4 KiB)."
    assert text(summary.growth(window(1 << 20, 5 << 20, 3 << 20))) == (
        f"{begin} (± 4.2 MiB, not significant)."
    )
    assert text(summary.growth(window(1 << 20, 5 << 20, 0))) == f"{begin}."
    assert text(summary.growth(window(1 << 20, 1 << 20, 0))) == (
        "No cache, call site or device grew in the last 10m00s."
    )


def test_growth_takes_two_moments() -> None:
    assert text(summary.growth(report_period(host(SOME)))) == (
        "Growth is unknown, for it takes two moments: report on a recording, or watch for some "
        "time with --seconds."
    )


def test_counters() -> None:
    row = cache(allocs=1_000, allocated_bytes=4096, requested_bytes=3072, failed=3)
    assert text(summary.counters(snapshot(caches=(row,)))) == (
        "1,000 allocations of 4.0 KiB counted exactly, of which 25.0% was not requested; 3 failed."
    )
    assert text(summary.counters(snapshot(caches=()))) == (
        "0 allocations of 0 B counted exactly; none failed."
    )


def test_losses() -> None:
    assert text(summary.losses(snapshot(losses={"samples_full": 0}))) == "No event was lost."
    lost = snapshot(losses={"samples_full": 2, "nesting": 1_000, "events_full": 0})
    assert text(summary.losses(lost)) == (
        "1,002 events were lost since tracking began (110 were counted): nesting (1,000) and "
        "samples_full (2). Counters may be short by as much, and memory whose free was lost still "
        "counts as live."
    )


def test_what_cannot_be_seen() -> None:
    found = snapshot(
        caches=(cache("dentry"), cache("skbuff", frees_observable=False)),
        devices=(device(slab_bytes=None),),
        tracked=tracked([Object(stack=-1), Object(stack=2)], {2: ("a",)}),
    )
    assert text(summary.unseen(found)) == (
        "Not all frees can be observed in 1 cache (skbuff): live figures there are upper bounds, "
        "and growth there is not evidence of a leak. The kernel stack is missing for 1 of 2 "
        "tracked objects; only their call site is known. The slab memory behind the resources of "
        "1 device is unknown."
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
        "2 capabilities are degraded or off: b and c. The reasons are below."
    )
    assert text(summary.features(snapshot(features={}))) == ""
