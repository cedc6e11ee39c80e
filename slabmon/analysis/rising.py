# SPDX-License-Identifier: Apache-2.0
"""Notices that an amount of memory grows, from its level every few seconds.

It decides when to look closer, not what leaks: cheap, soon, and wrong now and then. An amount is
rising if within a minute it grew by a threshold in several steps and hardly ever shrank, or if the
lowest level of ten minutes did so twice in a row. Each time an amount was found to rise, its
threshold doubles for a day, so that a load that comes and goes is noticed less and less.
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
_FORGET_SECONDS = 86400.0
# The threshold: a share of the host's memory, at least this many bytes.
_SHARE, _LEAST = 1 / 16384, 1 << 20


class Level(NamedTuple):
    """An amount of memory in bytes. `tolerance` multiplies its threshold."""

    bytes: int
    tolerance: int = 1


class Growth(NamedTuple):
    """An amount that rises: by how many bytes, in how many seconds."""

    name: str
    bytes: int
    seconds: float


@dataclass
class _Course:
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=POINTS))
    floors: deque[int] = field(default_factory=lambda: deque(maxlen=_FLOORS))
    lowest: int | None = None  # since the last floor
    doublings: int = 0
    noticed: float = 0.0

    def rise(self, threshold: int) -> tuple[int, float] | None:
        """Return bytes and seconds of a rise by the threshold, None if there is none."""
        points = list(self.recent)
        rises = sum(after > before for before, after in pairwise(points))
        falls = sum(after < before for before, after in pairwise(points))
        grown = points[-1] - points[0]
        steady = rises >= _RISES and falls <= _FALLS
        if len(points) == POINTS and steady and grown >= threshold:
            return grown, (POINTS - 1) * PERIOD_SECONDS
        floors = list(self.floors)
        rising = all(after > before for before, after in pairwise(floors))
        if len(floors) == _FLOORS and rising and floors[-1] - floors[0] >= threshold:
            return floors[-1] - floors[0], (_FLOORS - 1) * _FLOOR_SECONDS
        return None


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
                course.floors.append(course.lowest)
                course.lowest = None
            if course.doublings and now - course.noticed > _FORGET_SECONDS:
                course.doublings = 0
            threshold = self._threshold << course.doublings
            rise = course.rise(threshold * level.tolerance)
            if rise:
                rising.append(Growth(name, *rise))
                course.doublings += 1
                course.noticed = now
                course.recent.clear()
                course.floors.clear()
        return sorted(rising, key=lambda growth: -growth.bytes)
