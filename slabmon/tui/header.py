# SPDX-License-Identifier: Apache-2.0
"""The header's text: how far to trust the figures, and what they cost."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable

from slabmon.base.activity import Activity, Stage
from slabmon.base.clock import boottime
from slabmon.base.escape import printable
from slabmon.base.format import duration, human
from slabmon.model import Mode
from slabmon.tui.browser import Browser
from slabmon.tui.feed import Reading
from slabmon.views.summary import SHOWN_SECONDS, Summary

_NAMED = 3
# A reading is shown as late when it takes this much longer than its interval.
_LATE_SECONDS = 3.0


def _named(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" +{len(listed) - _NAMED}" if len(listed) > _NAMED else ""
    return ", ".join(map(printable, listed[:_NAMED])) + more


def facts(summary: Summary, own_ratio: float | None = None) -> list[str]:
    """Return short texts, the most important first. `own_ratio`: CPU time per second of top
    itself."""
    tracking = summary.tracking
    mode = (
        "exact"
        if tracking.mode == Mode.EXACT
        else f"sampled every {human(tracking.sample_bytes, 'bytes')}"
    )
    if tracking.activity == Activity.AWAKE and tracking.stage == Stage.LIGHT:
        mode = f"LIGHT, {mode}"
    since = time.strftime("%F %T", time.localtime(tracking.since))
    since = since.removeprefix(time.strftime("%F "))  # no date for today
    parts = [mode, f"tracking {duration(tracking.seconds)} since {since}"]
    if tracking.suspended >= SHOWN_SECONDS:
        parts.append(f"host SUSPENDED {duration(tracking.suspended)}")
    if summary.unread >= SHOWN_SECONDS:
        parts.append(f"NOT READ {duration(summary.unread)} of {duration(summary.span)}")
    if tracking.activity != Activity.AWAKE:
        parts.insert(0, f"TRACKING {tracking.activity.upper()}: no live figures")
    if tracking.asleep:
        parts.append(f"asleep for {duration(tracking.asleep)} of it")
    if summary.lost:
        reasons = _named(reason for reason, _ in summary.losses)
        parts.append(
            f"LOST {summary.lost:,} ({human(summary.lost_per_second, 'count/s')}/s): {reasons}"
        )
    else:
        parts.append("lost 0")
    for state, names in sorted(summary.limited.items()):
        parts.append(f"{state}: {_named(names)}")
    growth = f", growth over {duration(summary.span)}" if summary.span else ""
    parts.append(f"rates over {duration(summary.seconds)}{growth}")
    if summary.event_seconds is None or summary.cpu_ratio is None:
        parts.append("BPF cost not measured")
    else:
        parts.append(
            f"BPF {duration(summary.event_seconds)}/event, {human(summary.cpu_ratio, 'ratio')} CPU"
        )
    if own_ratio is not None:
        parts.append(f"top {human(own_ratio, 'ratio')}")
    parts.append(
        f"{printable(summary.host.release)} {printable(summary.host.machine)}, "
        f"{summary.host.cpus} CPUs"
    )
    return parts


def alarms(
    reading: Reading, browser: Browser, stopped: str, delay: float, instead_of: str = ""
) -> list[str]:
    """Return warnings that the display is not the present, shows no totals, or is not of the
    daemon. `stopped`: PAUSED, HELD or ""; `instead_of`: see LiveSource."""
    parts = [stopped] if stopped else []
    if instead_of:
        parts.append(f"LOCAL SESSION: {printable(instead_of)}")
    age = boottime() - reading.read_at
    if reading.error is not None:
        parts.append(f"NO ANSWER for {duration(age)}: {printable(str(reading.error))}")
    elif age > delay + _LATE_SECONDS:
        parts.append(f"WAITING for {duration(age)}")
    if reading.moment is not None:
        at = time.strftime("%F %T", time.localtime(reading.moment))
        parts.append(f"RECORDED {at}")
    mark = browser.mark
    if mark is not None and browser.table.mark is None:
        parts.append("MARK void: tracking restarted")
    elif mark is not None:
        seconds = browser.window.snapshot.tracking.seconds
        parts.append(f"CHANGE over {duration(seconds - mark.snapshot.tracking.seconds)}")
    return parts


def where(browser: Browser, rows: tuple[int, int]) -> list[str]:
    """Return the path to the present place, the visible rows, the siblings and the filter."""
    place = browser.place
    parts = [browser.crumbs, f"{rows[0]}-{rows[1]} of {len(browser.order):,}"]
    parts += filter(None, [browser.table.note])
    if len(place.siblings) > 1:
        parts.append("tab: " + " ".join(title for title, _ in place.siblings))
    if place.filter:
        parts.append(f"filter: {printable(place.filter)}")
    return parts


def joined(parts: Iterable[str], width: int, between: str = " | ") -> list[str]:
    """Return parts joined into as few lines of `width` as they fit; wider parts are wrapped."""
    lines: list[str] = []
    for piece in (piece for part in parts for piece in textwrap.wrap(part, width)):
        if lines and len(lines[-1]) + len(between) + len(piece) <= width:
            lines[-1] += between + piece
        else:
            lines.append(piece)
    return lines
