# SPDX-License-Identifier: Apache-2.0
"""The header's text: how far the figures can be trusted, and what they cost."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable

from slabmon.base.escape import printable
from slabmon.base.format import duration, human
from slabmon.tui.browser import Browser
from slabmon.tui.feed import Reading
from slabmon.views.summary import Summary

_NAMED = 3
# A reading that takes this much longer than its interval is shown as late.
_LATE_SECONDS = 3.0


def _named(names: Iterable[str]) -> str:
    found = list(names)
    more = f" +{len(found) - _NAMED}" if len(found) > _NAMED else ""
    return ", ".join(map(printable, found[:_NAMED])) + more


def facts(summary: Summary, own_ratio: float | None = None) -> list[str]:
    """One short text per fact, the most important first. `own_ratio`: CPU time of top itself per
    second."""
    tracking = summary.tracking
    mode = (
        "exact"
        if tracking.mode == "exact"
        else f"sampled every {human(tracking.sample_bytes, 'bytes')}"
    )
    since = time.strftime("%F %T", time.localtime(tracking.since))
    since = since.removeprefix(time.strftime("%F "))  # today goes without saying
    found = [mode, f"tracking {duration(tracking.seconds)} since {since}"]
    if summary.lost:
        reasons = _named(reason for reason, _ in summary.losses)
        found.append(
            f"LOST {summary.lost:,} ({human(summary.lost_per_second, 'count/s')}/s): {reasons}"
        )
    else:
        found.append("lost 0")
    for state, names in sorted(summary.limited.items()):
        found.append(f"{state}: {_named(names)}")
    growth = f", growth over {duration(summary.span)}" if summary.span else ""
    found.append(f"rates over {duration(summary.seconds)}{growth}")
    if summary.event_seconds is None or summary.cpu_ratio is None:
        found.append("BPF cost not measured")
    else:
        found.append(
            f"BPF {duration(summary.event_seconds)}/event, {human(summary.cpu_ratio, 'ratio')} CPU"
        )
    if own_ratio is not None:
        found.append(f"top {human(own_ratio, 'ratio')}")
    found.append(
        f"{printable(summary.host.release)} {printable(summary.host.machine)}, "
        f"{summary.host.cpus} CPUs"
    )
    return found


def alarms(reading: Reading, browser: Browser, stopped: str, delay: float) -> list[str]:
    """What keeps the display from being the present, or from being totals. `stopped` says what is
    stopped, "" for nothing."""
    found = [stopped] if stopped else []
    age = time.monotonic() - reading.read_at
    if reading.error is not None:
        found.append(f"NO ANSWER for {duration(age)}: {printable(str(reading.error))}")
    elif age > delay + _LATE_SECONDS:
        found.append(f"WAITING for {duration(age)}")
    if reading.moment is not None:
        at = time.strftime("%F %T", time.localtime(reading.moment))
        found.append(f"RECORDED {at}")
    mark = browser.mark
    if mark is not None and browser.table.mark is None:
        found.append("MARK void: tracking began anew")
    elif mark is not None:
        seconds = browser.window.snapshot.tracking.seconds
        found.append(f"CHANGE over {duration(seconds - mark.snapshot.tracking.seconds)}")
    return found


def where(browser: Browser, rows: tuple[int, int]) -> list[str]:
    """Where one is: the way here, the visible rows, what else belongs to the row, the filter."""
    place = browser.place
    found = [browser.crumbs, f"{rows[0]}-{rows[1]} of {len(browser.order):,}"]
    if len(place.siblings) > 1:
        found.append("tab: " + " ".join(title for title, _ in place.siblings))
    if place.filter:
        found.append(f"filter: {printable(place.filter)}")
    return found


def joined(parts: Iterable[str], width: int, between: str = " | ") -> list[str]:
    """Parts in as few lines as they fit into; a part that is wider is broken."""
    lines: list[str] = []
    for shown in (piece for part in parts for piece in textwrap.wrap(part, width)):
        if lines and len(lines[-1]) + len(between) + len(shown) <= width:
            lines[-1] += between + shown
        else:
            lines.append(shown)
    return lines
