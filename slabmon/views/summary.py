# SPDX-License-Identifier: Apache-2.0
"""What the header of every view says: how far its figures can be trusted, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from slabmon.model import Host, Tracking
from slabmon.views.window import Window


@dataclass(frozen=True)
class Summary:
    """`seconds` is the interval that rates are over, `span` the window that growth is over.

    Losses are events missed since tracking began (`lost`), per second of the interval, and by
    reason, largest first. `limited` are features that are not on, by state. `event_seconds` is
    the mean time of a run of slabmon's BPF programs, `cpu_ratio` what they take of one CPU: both
    None until the kernel has taken statistics.
    """

    host: Host
    tracking: Tracking
    seconds: float
    span: float
    lost: int
    lost_per_second: float
    losses: tuple[tuple[str, int], ...]
    limited: dict[str, tuple[str, ...]]
    live_bytes: int
    events_per_second: float
    event_seconds: float | None
    cpu_ratio: float | None


def summarize(window: Window) -> Summary:
    """The summary of a window."""
    snapshot = window.snapshot
    before = window.before.snapshot if window.before else None

    def per_second(now: int, then: int) -> float:
        return (now - then) / window.seconds if window.seconds > 0 else 0.0

    lost = sum(snapshot.losses.values())
    events, earlier = (
        sum(cache.allocs + cache.frees for cache in found.caches) if found else 0
        for found in (snapshot, before)
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
        lost=lost,
        lost_per_second=per_second(lost, sum(before.losses.values()) if before else 0),
        losses=tuple(
            sorted(
                ((reason, count) for reason, count in snapshot.losses.items() if count),
                key=lambda item: -item[1],
            )
        ),
        limited=limited,
        live_bytes=sum(cache.live.bytes for cache in snapshot.caches),
        events_per_second=rate,
        event_seconds=event_seconds,
        cpu_ratio=None if event_seconds is None else event_seconds * rate,
    )
