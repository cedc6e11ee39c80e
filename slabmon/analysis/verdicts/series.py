"""What is kept of the past: series at moments, dense for minutes, sparse for days."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from slabmon.analysis.verdicts.drift import BLOCKS
from slabmon.analysis.verdicts.survivors import Flow, Old
from slabmon.model import Device, Site

POINTS = 4 * BLOCKS + 1
MAX_SERIES = 2048
# Seconds between points, and the age from which on an object counts at all: what is freed sooner
# is churn, at each scale of time.
SCALES = ((15.0, 60.0), (150.0, 600.0), (1800.0, 3600.0))
_EARLY = 0.1  # share of a step that a point may come early: readings are never quite regular

Subject = tuple[str, Hashable]


class Subjects:
    """Numbers of the series, which are about one subject each: at most MAX_SERIES."""

    def __init__(self) -> None:
        self.number: dict[Subject, int] = {}
        self.left_out: set[Subject] = set()

    def get(self, subject: Subject) -> int:
        """Its number, a new one if need be; -1 if there is no room."""
        found = self.number.get(subject)
        if found is None:
            if len(self.number) >= MAX_SERIES:
                if len(self.left_out) < MAX_SERIES:
                    self.left_out.add(subject)
                return -1
            found = self.number[subject] = len(self.number)
            self.left_out.discard(subject)
        return found

    def keep(self, rows: np.ndarray) -> np.ndarray:
        """Forgets all but these series; returns the new number by old one, -1 for none."""
        new = np.full(len(self.number), -1)
        new[rows] = np.arange(len(rows))
        kept = {subject: int(new[i]) for subject, i in self.number.items() if new[i] >= 0}
        self.number = dict(sorted(kept.items(), key=lambda item: item[1]))
        return new


class Point(NamedTuple):
    """By series: what lives (relative to when it was first seen), the variance of how that came
    about, old bytes freed, bytes allocated (NaN: not known); and events lost, by all."""

    level: np.ndarray
    variance: np.ndarray
    gone: np.ndarray
    allocated: np.ndarray
    lost: float


@dataclass(frozen=True)
class Stretch:
    """Some consecutive points of one scale as arrays (moments, series). `age`: see SCALES."""

    age: float
    moments: np.ndarray
    level: np.ndarray
    variance: np.ndarray
    gone: np.ndarray
    allocated: np.ndarray
    lost: np.ndarray

    @property
    def seconds(self) -> float:
        """From the first point to the last."""
        return float(self.moments[-1] - self.moments[0])

    def since(self, first: int) -> Stretch:
        """From this point on."""
        return Stretch(self.age, self.moments[first:], self.level[first:], self.variance[first:],
                       self.gone[first:], self.allocated[first:], self.lost[first:])  # fmt: skip


class Scale:
    """The last POINTS points, `step` seconds apart."""

    def __init__(self, step: float, age: float) -> None:
        self.step = step
        self.old = Old(age)
        self.flow = Flow()
        self.moments: deque[float] = deque(maxlen=POINTS)
        self.points: deque[Point] = deque(maxlen=POINTS)

    def due(self, seconds: float) -> bool:
        """Whether it is time for a point."""
        return not self.moments or seconds - self.moments[-1] >= self.step * (1 - _EARLY)

    def add(self, seconds: float, exact: np.ndarray, allocated: np.ndarray, lost: float) -> None:
        """One more point. `exact` are levels that are simply known, NaN where the flow has it."""
        known = ~np.isnan(exact)
        level = np.where(known, exact, self.flow.come - self.flow.gone)
        self.moments.append(seconds)
        self.points.append(Point(level, self.flow.variance.copy(), self.flow.gone.copy(),
                                 allocated, lost))  # fmt: skip

    def stretch(self, count: int) -> Stretch:
        """Points of so many series. What a series was before its first point is 0: none."""
        shape = (len(self.points), count)
        level, variance, gone = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        allocated = np.full(shape, np.nan)
        for i, point in enumerate(self.points):
            there = len(point.level)
            level[i, :there] = point.level
            variance[i, :there] = point.variance
            gone[i, :there] = point.gone
            allocated[i, :there] = point.allocated
        moments = np.array(self.moments)
        found = Stretch(self.old.age, moments, level, variance, gone, allocated,
                        np.array([point.lost for point in self.points]))  # fmt: skip
        # Nothing could be old before tracking had gone on for so long.
        return found.since(int(np.searchsorted(moments, self.old.age)))

    def keep(self, rows: np.ndarray, new: np.ndarray) -> None:
        """Forgets all but these series."""
        self.flow.grow(len(new))  # some were new since its last point
        self.flow.select(rows)
        self.old.renumber(new)
        kept = []
        for point in self.points:
            mine = rows[rows < len(point.level)]
            kept.append(Point(point.level[mine], point.variance[mine], point.gone[mine],
                              point.allocated[mine], point.lost))  # fmt: skip
        self.points = deque(kept, POINTS)

    def extent(self, count: int) -> np.ndarray:
        """By how much each series differs from nothing, or from when it was first seen."""
        found = np.zeros(count)
        if self.points:
            level = self.points[-1].level
            found[: len(level)] = np.abs(level)
        return found

    def still(self, count: int) -> np.ndarray:
        """Which series have the same level at all points."""
        level = self.stretch(count).level
        return np.asarray((level == level[-1]).all(0)) if len(level) else np.ones(count, bool)


def site_key(site: Site) -> Hashable:
    """What identifies a call site, as in the view of sites."""
    return site.symbol, site.offset, site.module


def device_key(device: Device) -> Hashable:
    """What identifies a device, as in the view of devices."""
    return device.bus, device.name
