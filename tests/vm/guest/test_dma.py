# SPDX-License-Identifier: Apache-2.0
"""Planted DMA memory is that of its devices."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import pytest

from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings, When
from slabmon.kernel.tracker import Tracker
from slabmon.model import Device, State
from tests.vm.guest import planted as module
from tests.vm.guest.planted import DmaMemory

OBSERVABLE = os.environ["SLABMON_VM_GUEST"] not in ("5.10", "6.1")
EVENTS = Path("/sys/kernel/tracing/instances/planted_dma")
LINE = re.compile(r": dma_(alloc|free)\w*: (slabmon_dma\.\d) .*size=(\d+)")


@pytest.fixture(autouse=True)
def dropped(planted: None) -> Iterator[None]:
    yield
    module.dma("drop")


@pytest.fixture
def traced() -> Iterator[Path]:
    """An instance of the kernel's own tracer, which writes each event of DMA memory."""
    EVENTS.mkdir()
    try:
        for event in ("dma_alloc", "dma_alloc_pages", "dma_alloc_sgt"):
            (EVENTS / f"events/dma/{event}/enable").write_text("1")
            (EVENTS / f"events/dma/{event.replace('alloc', 'free')}/enable").write_text("1")
        yield EVENTS
    finally:
        (EVENTS / "events/enable").write_text("0")
        EVENTS.rmdir()


def rows(tracker: Tracker) -> dict[str, Device]:
    """The planted devices as slabmon sees them."""
    snapshot = tracker.snapshot()
    losses = {name: n for name, n in snapshot.losses.items() if n and "dma" in name}
    assert not losses
    return {d.name: d for d in snapshot.devices if d.name.startswith("slabmon_dma.")}


def counts(device: Device) -> DmaMemory:
    assert device.dma_bytes is not None
    return DmaMemory(
        device.name,
        device.dma_allocs,
        device.dma_frees,
        device.dma_failed,
        device.dma_allocated_bytes,
        device.dma_allocated_bytes - device.dma_bytes,
    )


@pytest.mark.skipif(not OBSERVABLE, reason="see test_older_kernels_say_so")
def test_each_device_is_counted_exactly(traced: Path) -> None:
    """In four steps: all is held, some is freed, the devices are removed, the rest is freed. The
    kernel's own tracer has written the same."""
    with open_tracker(Settings()) as tracker:
        assert not rows(tracker)
        for step in ("hold", "less", "gone"):
            expected = module.dma(step)
            found = rows(tracker)
            print(step, expected, found)
            assert [counts(found[e.device]) for e in expected] == expected
            assert {astuple(e)[3] for e in expected} == {5, 0}
            for device in found.values():
                assert device.dma_bytes
                assert (device.bus, device.driver, device.module) == (
                    "platform",
                    "slabmon_dma",
                    module.NAME,
                )
                assert not device.dma_earlier_frees
        expected = module.dma("drop")
        found = rows(tracker)
        assert [counts(found[e.device]) for e in expected] == expected
        assert not any(device.dma_bytes for device in found.values())
    number, size = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for line in (traced / "trace").read_text().splitlines():
        if match := LINE.search(line):
            number[match[1], match[2]] += 1
            size[match[1], match[2]] += int(match[3])
    for e in expected:
        failed_bytes = e.failed << 40
        assert number["alloc", e.device] == e.allocs + e.failed
        assert number["free", e.device] == e.frees
        assert size["alloc", e.device] == e.bytes + failed_bytes
        assert size["free", e.device] == e.freed_bytes


@pytest.mark.skipif(not OBSERVABLE, reason="see test_older_kernels_say_so")
def test_managed_memory_and_its_record_are_both_counted() -> None:
    """dmam_alloc_coherent(): the record is managed memory, what it is of is DMA memory."""
    with open_tracker(Settings()) as tracker:
        module.dma("hold")
        records = {
            device.name: [(r.resources, r.bytes) for r in device.by_release]
            for device in rows(tracker).values()
        }
        (resources, size), *others = records["slabmon_dma.0"]
        assert (resources, others) == (11, [])
        assert size < 11 * 100
        assert not records["slabmon_dma.1"]


@pytest.mark.skipif(not OBSERVABLE, reason="see test_older_kernels_say_so")
def test_memory_from_before_is_counted_apart_when_it_is_freed() -> None:
    module.dma("hold")
    before = module.dma("less")
    with open_tracker(Settings()) as tracker:
        after = module.dma("less")
        for device, then, now in zip(sorted(rows(tracker).items()), before, after, strict=True):
            row = device[1]
            assert (row.dma_bytes, row.dma_allocs, row.dma_frees) == (0, 0, 0)
            assert row.dma_earlier_frees == now.frees - then.frees > 0
            assert row.dma_earlier_bytes == now.freed_bytes - then.freed_bytes
        held = module.dma("hold")
        for name, row in rows(tracker).items():
            (then, now) = next((t, n) for t, n in zip(after, held, strict=True) if n.device == name)
            assert row.dma_bytes == now.bytes - then.bytes > 0


@pytest.mark.skipif(not OBSERVABLE, reason="see test_older_kernels_say_so")
@pytest.mark.parametrize("when", [When.AUTO, When.OFF])
def test_it_is_counted_while_tracking_sleeps(when: When) -> None:
    with open_tracker(Settings(when=when)) as tracker:
        assert not tracker.awake
        expected = module.dma("hold")
        expected = module.dma("less")
        found = rows(tracker)
        assert [counts(found[e.device]) for e in expected] == expected


@pytest.mark.skipif(OBSERVABLE, reason="this kernel has the events")
def test_older_kernels_say_so() -> None:
    with open_tracker(Settings()) as tracker:
        module.dma("hold")
        snapshot = tracker.snapshot()
    for name in ("dma", "dma_pages"):
        assert snapshot.features[name].state == State.OFF
        assert snapshot.features[name].reason == "this kernel has no tracepoint dma_alloc (6.12+)"
    assert {device.dma_bytes for device in snapshot.devices} == {None}
    assert not any(device.dma_allocs for device in snapshot.devices)
