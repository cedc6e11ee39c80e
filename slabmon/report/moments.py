"""Times as people give them, and the moments of a recording that a report is about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from slabmon.analysis.delta import is_reset
from slabmon.analysis.window import History, Instant, Window
from slabmon.errors import UsageError
from slabmon.progress import track
from slabmon.store.recording import Moment, Recording
from slabmon.units import duration
from slabmon.views import VIEWS

# Views whose growth a report shows.
GROWING = ("caches", "sites", "devices")
MAX_POINTS = 60
_MIN_POINTS = 4
# A recording's snapshots are read for their history until about so many rows have been.
_ROWS = 400_000
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)


@dataclass(frozen=True)
class Subject:
    """What a report is about: the moment `now`; `before` if it is about what changed since then;
    `window` ends now and goes back to the first moment whose history is known. `origin` tells
    where it comes from."""

    origin: str
    now: Moment
    before: Moment | None
    window: Window


def show_time(time: float) -> str:
    """A Unix time in local time, with its distance from UTC, as --from and --to take it. Those
    of a recording can be out of all bounds."""
    try:
        return datetime.fromtimestamp(time).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{time:g} s after 1970"


def parse_time(text: str, end: float) -> float:
    """Unix time of ISO 8601 (local time unless it says otherwise), of HH:MM or HH:MM:SS (local,
    the last before `end`), or of -10m, -2h (before `end`)."""
    try:
        if text.startswith("-"):
            return end - duration(text[1:])
        clock = _CLOCK.fullmatch(text)
        if clock is None:
            return datetime.fromisoformat(text).timestamp()
        hour, minute, second = (int(part or 0) for part in clock.groups())
        last = datetime.fromtimestamp(end)
        found = last.replace(hour=hour, minute=minute, second=second, microsecond=0)
        return (found if found <= last else found - timedelta(days=1)).timestamp()
    except (ValueError, OverflowError, OSError, UsageError):
        raise UsageError(
            f"{text!r} is no time; give 2026-03-01T03:00, 2026-03-01T03:00Z, 03:00, or -10m for "
            "ten minutes before the end"
        ) from None


def of_recording(recording: Recording, start: str | None, end: str | None) -> Subject:
    """The subject that --from and --to (None: not given) choose."""
    first, last = recording.span()

    def moment(text: str) -> Moment:
        time = parse_time(text, last)
        # Times are given in seconds, and shown so.
        if not int(first) <= time <= int(last) + 1:
            raise UsageError(
                f"{text} ({show_time(time)}) lies outside of the recording {recording.path}, "
                f"which goes from {show_time(first)} to {show_time(last)}"
            )
        return recording.at(time)

    now = recording.at(last) if end is None else moment(end)
    before = None if start is None else moment(start)
    if before is not None:
        check_pair(before, now)
    begin = first if before is None else before.time
    return Subject(f"recording {recording.path}", now, before, _window(recording, begin, now))


def check_pair(before: Moment, now: Moment) -> None:
    """UsageError unless what changed from one to the other can be told."""
    if before.time >= now.time:
        raise UsageError(
            f"--from ({show_time(before.time)}) is not before --to ({show_time(now.time)}): at "
            "each time a recording holds the snapshot last taken then; choose two"
        )
    if is_reset(before.snapshot, now.snapshot):
        raise UsageError(
            f"tracking began anew at {show_time(now.snapshot.tracking.since)}, between the two "
            "moments, so that their counters cannot be compared; choose both before or after it"
        )


def _window(recording: Recording, begin: float, now: Moment) -> Window:
    history = growth_history()
    window = Window(Instant(now.snapshot))
    for moment in track(_spread(recording, begin, now), _points(now), "reading the recording"):
        window = history.add(moment.snapshot)
    return window


def growth_history() -> History:
    """What makes windows of all snapshots that it is given, for the views of GROWING."""
    return History([VIEWS[name] for name in GROWING], float("inf"), 0)


def _points(now: Moment) -> int:
    snapshot = now.snapshot
    rows = sum(map(len, (snapshot.caches, snapshot.sites, snapshot.devices)))
    rows += len(snapshot.tracked.bytes)
    return max(_MIN_POINTS, min(MAX_POINTS, _ROWS // max(1, rows)))


def _spread(recording: Recording, begin: float, now: Moment) -> Iterator[Moment]:
    """Some moments from `begin` to `now`, both included, in about equal steps."""
    times = recording.times(begin, now.time)
    count = min(_points(now), len(times))
    for point in range(count - 1):
        yield recording.at(times[point * (len(times) - 1) // (count - 1)])
    yield now
