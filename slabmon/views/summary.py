# SPDX-License-Identifier: Apache-2.0
"""The header of every view: how far to trust its figures, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from slabmon.base.fields import Host
from slabmon.model import Tracking
from slabmon.views.window import Window

# Shorter pauses and suspensions are not shown.
SHOWN_SECONDS = 1.0


@dataclass(frozen=True)
class Summary:
    """Facts about a window.

    seconds: the interval that rates are over.
    span: the window that growth is over, seconds.
    unread: seconds of `span` in which nothing was read, because slabmon was stopped.
    lost, lost_per_second: lost events since tracking began, and per second of the interval.
    losses: lost events by reason, largest first.
    limited: names of the features that are not on, by state.
    held_bytes: what the slabs of all caches hold, whenever it was allocated; None without slabinfo.
    live_bytes: live memory of all caches.
    event_seconds: mean run time of slabmon's BPF programs, None without kernel statistics.
    cpu_ratio: their share of one CPU, None without kernel statistics.
    """

    host: Host
    tracking: Tracking
    seconds: float
    span: float
    unread: float
    lost: int
    lost_per_second: float
    losses: tuple[tuple[str, int], ...]
    limited: dict[str, tuple[str, ...]]
    held_bytes: int | None
    live_bytes: int
    events_per_second: float
    event_seconds: float | None
    cpu_ratio: float | None


def summarize(window: Window) -> Summary:
    """Return the summary of a window."""
    snapshot = window.snapshot
    before = window.before.snapshot if window.before else None

    def per_second(now: int, then: int) -> float:
        return (now - then) / window.seconds if window.seconds > 0 else 0.0

    lost = sum(snapshot.losses.values())
    events, earlier = (
        sum(cache.allocs + cache.frees for cache in instant.caches) if instant else 0
        for instant in (snapshot, before)
    )
    runs = sum(program.runs for program in snapshot.programs)
    event_seconds = sum(p.run_seconds for p in snapshot.programs) / runs if runs else None
    rate = per_second(events, earlier)
    limited: dict[str, tuple[str, ...]] = {}
    for name, feature in snapshot.features.items():
        if feature.state != "on":
            limited[feature.state] = (*limited.get(feature.state, ()), name)
    return Summary(
        host=snapshot.host,
        tracking=snapshot.tracking,
        seconds=window.seconds,
        span=window.span,
        unread=window.unread,
        lost=lost,
        lost_per_second=per_second(lost, sum(before.losses.values()) if before else 0),
        losses=tuple(
            sorted(
                ((reason, count) for reason, count in snapshot.losses.items() if count),
                key=lambda item: -item[1],
            )
        ),
        limited=limited,
        held_bytes=sum(cache.held_bytes for cache in snapshot.caches)
        if any(cache.slabinfo for cache in snapshot.caches)
        else None,
        live_bytes=sum(cache.live.bytes for cache in snapshot.caches),
        events_per_second=rate,
        event_seconds=event_seconds,
        cpu_ratio=None if event_seconds is None else event_seconds * rate,
    )
