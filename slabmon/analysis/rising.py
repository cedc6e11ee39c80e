# SPDX-License-Identifier: Apache-2.0
"""Notices that an amount of memory grows, from its level every few seconds, and that allocations
fail.

It decides when to look closer, not what leaks: cheap, soon, and wrong now and then. An amount is
rising if within a minute it grew by a threshold in several steps and hardly ever shrank, or if the
lowest level of ten minutes did so twice in a row, or if that of half an hour grew six times in a
row, by a few pages in all. Each time an amount was found to rise, its
threshold doubles for a day, so that a load that comes and goes is noticed less and less. The same
holds for counters of failures, which are noticed when they advance by a number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

POINTS = 7  # levels that are compared, one every PERIOD_SECONDS
PERIOD_SECONDS = 10.0
_RISES, _FALLS = 3, 1  # steps between them: at least so many upward, at most so many downward
_FLOOR_SECONDS = 600.0
_FLOORS = 3
_SLOW_EACH, _SLOW_FLOORS, _SLOW_LEAST = 3, 7, 6 * 4096  # floors each, how many, bytes in all
_FORGET_SECONDS = 86400.0
# The threshold: a share of the host's memory, at least this many bytes.
_SHARE, _LEAST = 1 / 16384, 1 << 20


class Level(NamedTuple):
    """An amount of memory in bytes. `tolerance` multiplies its threshold, within a minute
    `brief_tolerance` (None: the same)."""

    bytes: int
    tolerance: int = 1
    brief_tolerance: int | None = None


class Growth(NamedTuple):
    """An amount that rises: by how many bytes, in how many seconds. `brief`: within a minute."""

    name: str
    bytes: int
    seconds: float
    brief: bool = False


class Failures(NamedTuple):
    """A counter of failures, and by how much it has to advance from one look to the next."""

    number: int
    least: int = 1


class Failing(NamedTuple):
    """Failures since the last look."""

    name: str
    number: int


@dataclass
class _Course:
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=POINTS))
    floors: deque[int] = field(default_factory=lambda: deque(maxlen=_FLOORS))
    slow_floors: deque[int] = field(default_factory=lambda: deque(maxlen=_SLOW_FLOORS))
    lowest: int | None = None  # since the last floor
    latest_floors: list[int] = field(default_factory=list)  # since the last slow one
    doublings: int = 0
    noticed: float = 0.0

    def end_floor(self) -> None:
        """Begin to look for the next lowest level."""
        assert self.lowest is not None
        self.floors.append(self.lowest)
        self.latest_floors.append(self.lowest)
        self.lowest = None
        if len(self.latest_floors) == _SLOW_EACH:
            self.slow_floors.append(min(self.latest_floors))
            self.latest_floors.clear()

    def rise(self, brief: int, threshold: int, slow: int) -> tuple[int, float, bool] | None:
        """Return bytes and seconds of a rise, and whether it took a minute: by `brief` bytes, else
        of the lowest level of ten minutes by `threshold`, or of half an hour by `slow` (0: not
        looked at). None if there is none."""
        points = list(self.recent)
        rises = sum(after > before for before, after in pairwise(points))
        falls = sum(after < before for before, after in pairwise(points))
        grown = points[-1] - points[0]
        steady = rises >= _RISES and falls <= _FALLS
        if len(points) == POINTS and steady and grown >= brief:
            return grown, (POINTS - 1) * PERIOD_SECONDS, True
        grown = _grown(self.floors)
        if grown and grown >= threshold:
            return grown, (_FLOORS - 1) * _FLOOR_SECONDS, False
        grown = _grown(self.slow_floors)
        if slow and grown >= slow:
            return grown, (_SLOW_FLOORS - 1) * _SLOW_EACH * _FLOOR_SECONDS, False
        return None

    def forget(self) -> None:
        """Begin anew."""
        self.recent.clear()
        self.floors.clear()
        self.slow_floors.clear()
        self.latest_floors.clear()


def _grown(floors: deque[int]) -> int:
    """Return by how much levels rose from each to the next; 0 if one did not, or is missing."""
    levels = list(floors)
    rising = all(after > before for before, after in pairwise(levels))
    return levels[-1] - levels[0] if rising and len(levels) == floors.maxlen else 0


class Rising:
    """Follows amounts by name. `memory` is the host's, in bytes."""

    def __init__(self, memory: int) -> None:
        self._threshold = max(_LEAST, int(memory * _SHARE))
        self._courses: dict[str, _Course] = {}
        self._floor_at = 0.0

    def add(self, now: float, levels: Mapping[str, Level]) -> list[Growth]:
        """Take the levels at a moment, `now` in seconds. Return what rises, the most first."""
        floor_due = now - self._floor_at >= _FLOOR_SECONDS
        if floor_due:
            self._floor_at = now
        self._courses = {name: self._courses.get(name) or _Course() for name in levels}
        rising = []
        for name, level in levels.items():
            course = self._courses[name]
            course.recent.append(level.bytes)
            lowest = level.bytes if course.lowest is None else course.lowest
            course.lowest = min(level.bytes, lowest)
            if floor_due:
                course.end_floor()
            if course.doublings and now - course.noticed > _FORGET_SECONDS:
                course.doublings = 0
            threshold = self._threshold << course.doublings
            brief = level.brief_tolerance or level.tolerance
            # What is tolerated more grows for hours on any host, by a few pages.
            slow = _SLOW_LEAST << course.doublings if level.tolerance == 1 else 0
            rise = course.rise(threshold * brief, threshold * level.tolerance, slow)
            if rise:
                rising.append(Growth(name, *rise))
                course.doublings += 1
                course.noticed = now
                course.forget()
        return sorted(rising, key=lambda growth: -growth.bytes)


@dataclass
class _Counter:
    number: int
    doublings: int = 0
    noticed: float = 0.0


class FailureWatch:
    """Follows counters of failures by name. What is there at the first look is not news."""

    def __init__(self) -> None:
        self._counters: dict[str, _Counter] = {}

    def add(self, now: float, counters: Mapping[str, Failures]) -> list[Failing]:
        """Take the counters at a moment, `now` in seconds. Return those that advanced by enough
        since the last one."""
        failing = []
        for name, (number, least) in counters.items():
            counter = self._counters.setdefault(name, _Counter(number))
            advanced, counter.number = number - counter.number, number
            if counter.doublings and now - counter.noticed > _FORGET_SECONDS:
                counter.doublings = 0
            if advanced >= least << counter.doublings:
                failing.append(Failing(name, advanced))
                counter.doublings += 1
                counter.noticed = now
        return failing
