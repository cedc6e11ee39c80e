# SPDX-License-Identifier: Apache-2.0
"""What is kept of the past: series at moments, dense for minutes, sparse for days."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from slabmon.leaks.drift import BLOCKS
from slabmon.leaks.survivors import Flow, Old
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


@dataclass(frozen=True, slots=True)
class Point:
    """Events lost by all series, and by series, compressed: what lives (relative to when it was
    first seen), the variance of how that came about, old bytes freed, bytes allocated (NaN: not
    known). Most series are the same from point to point, or nothing."""

    packed: bytes
    lost: float

    @classmethod
    def of(cls, columns: np.ndarray, lost: float) -> Point:
        """From an array (4, series)."""
        return cls(zlib.compress(columns.tobytes(), 1), lost)

    def unpacked(self) -> np.ndarray:
        """As of() got it."""
        return np.frombuffer(zlib.decompress(self.packed)).reshape(4, -1)


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
        return Stretch(
            self.age,
            self.moments[first:],
            self.level[first:],
            self.variance[first:],
            self.gone[first:],
            self.allocated[first:],
            self.lost[first:],
        )


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
        columns = np.stack([level, self.flow.variance, self.flow.gone, allocated])
        self.points.append(Point.of(columns, lost))

    def stretch(self, count: int) -> Stretch:
        """Points of so many series. What a series was before its first point is 0: none."""
        found = np.zeros((4, len(self.points), count))
        found[3] = np.nan
        for i, point in enumerate(self.points):
            columns = point.unpacked()
            found[:, i, : columns.shape[1]] = columns
        level, variance, gone, allocated = found
        moments = np.array(self.moments)
        whole = Stretch(
            self.old.age,
            moments,
            level,
            variance,
            gone,
            allocated,
            np.array([point.lost for point in self.points]),
        )
        # Nothing could be old before tracking had gone on for so long.
        return whole.since(int(np.searchsorted(moments, self.old.age)))

    def keep(self, rows: np.ndarray, new: np.ndarray) -> None:
        """Forgets all but these series."""
        self.flow.grow(len(new))  # some were new since its last point
        self.flow.select(rows)
        self.old.renumber(new)
        kept = []
        for point in self.points:
            columns = point.unpacked()
            kept.append(Point.of(columns[:, rows[rows < columns.shape[1]]], point.lost))
        self.points = deque(kept, POINTS)

    def extent(self, count: int) -> np.ndarray:
        """By how much each series differs from nothing, or from when it was first seen."""
        found = np.zeros(count)
        if self.points:
            level = self.points[-1].unpacked()[0]
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
