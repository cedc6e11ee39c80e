# SPDX-License-Identifier: Apache-2.0
"""The recent past as series of points, dense for minutes and sparse for days."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from slabmon.base.arrays import F64, I64, Bool, median
from slabmon.leaks.drift import BLOCKS
from slabmon.leaks.finding import Kind
from slabmon.leaks.survivors import AgedFlow, AgedObjects
from slabmon.model import Device, Site

POINTS = 4 * BLOCKS + 1
MAX_SERIES = 2048
# Seconds between points, and the age in seconds from which objects count: at each scale of time,
# what is freed sooner is churn.
SCALES = ((15.0, 60.0), (150.0, 600.0), (1800.0, 3600.0))
# Of the points that are too old for the last scale, one in so many is kept: of 24 days, six hours
# apart.
SPARSE = 12
# An interval this many times the usual one is a pause: nobody looked meanwhile.
PAUSE = 3.0
_EARLY = 0.1  # share of a step by which a point may come early: snapshots are never quite regular

Subject = tuple[Kind, Hashable]


class Subjects:
    """Numbers the series, each of which has one subject; at most MAX_SERIES."""

    def __init__(self, subjects: Iterable[Subject] = ()) -> None:
        self.number = {subject: i for i, subject in enumerate(subjects)}
        self.left_out: set[Subject] = set()

    def get(self, subject: Subject) -> int:
        """Return the number of a subject, assigning one if needed; -1 if there is no room."""
        number = self.number.get(subject)
        if number is None:
            if len(self.number) >= MAX_SERIES:
                if len(self.left_out) < MAX_SERIES:
                    self.left_out.add(subject)
                return -1
            number = self.number[subject] = len(self.number)
            self.left_out.discard(subject)
        return number

    def keep(self, rows: I64) -> I64:
        """Drop all series but these; return the new number by old number, -1 if dropped."""
        new = np.full(len(self.number), -1)
        new[rows] = np.arange(len(rows))
        remaining = {subject: int(new[i]) for subject, i in self.number.items() if new[i] >= 0}
        self.number = dict(sorted(remaining.items(), key=lambda item: item[1]))
        return new


@dataclass(frozen=True, slots=True)
class Point:
    """All series at one moment, compressed, since most are zero or unchanged from point to point;
    and the number of events lost so far that can hide a free.

    The columns, of shape (4, series): level (live bytes relative to the baseline), variance of how
    that came about, old bytes freed, bytes allocated (NaN: not known).
    """

    packed: bytes
    lost: float

    @classmethod
    def of(cls, columns: F64, lost: float) -> Point:
        """Compress an array of shape (4, series)."""
        return cls(zlib.compress(columns.tobytes(), 1), lost)

    def unpacked(self) -> F64:
        """Return the array given to of(), read-only."""
        return np.frombuffer(zlib.decompress(self.packed)).reshape(4, -1)

    def of_series(self, rows: I64) -> Point:
        """Return the point of these series only."""
        columns = self.unpacked()
        return Point.of(columns[:, rows[rows < columns.shape[1]]], self.lost)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Consecutive points of one scale. `moments` are tracking seconds, `age` is that of SCALES; for
    the other columns see Point. `taken` are the tracking
    seconds at which the points were taken: earlier than `moments` where a later pause was cut out
    (without_pauses)."""

    age: float
    taken: F64  # (moments,)
    moments: F64  # (moments,)
    level: F64  # (moments, series)
    variance: F64  # (moments, series)
    gone: F64  # (moments, series)
    allocated: F64  # (moments, series)
    lost: F64  # (moments,)

    @property
    def seconds(self) -> float:
        """Time from the first point to the last."""
        return float(self.moments[-1] - self.moments[0])

    def since(self, first: int) -> Stretch:
        """Return the points from the `first`-th on."""
        return Stretch(
            age=self.age,
            taken=self.taken[first:],
            moments=self.moments[first:],
            level=self.level[first:],
            variance=self.variance[first:],
            gone=self.gone[first:],
            allocated=self.allocated[first:],
            lost=self.lost[first:],
        )

    def without_pauses(self) -> Stretch:
        """Return the points with each pause cut to one usual interval at its mean rate.

        A process that is stopped, or a recording that is interrupted, misses how memory grew
        meanwhile: growth of hours must not count as that of one interval, nor a pause as time in
        which growth was watched. A fall stays whole, since memory that was freed has not leaked.
        """
        steps = np.diff(self.moments)
        usual = median(steps) if len(steps) else 0.0
        pauses = np.flatnonzero(steps > PAUSE * usual)
        if not len(pauses):
            return self
        moments, lost = self.moments.copy(), self.lost.copy()
        columns = [column.copy() for column in (self.level, self.variance, self.gone)]
        allocated = self.allocated.copy()
        for i in pauses.tolist():
            cut = 1 - usual / steps[i]
            moments[: i + 1] += cut * steps[i]
            rose = self.level[i + 1] >= self.level[i]
            for column in columns:
                column[i + 1 :] -= np.where(rose, cut * (column[i + 1] - column[i]), 0.0)
            for column in (allocated, lost):
                column[i + 1 :] -= cut * (column[i + 1] - column[i])
        level, variance, gone = columns
        return replace(
            self,
            moments=moments,
            level=level,
            variance=variance,
            gone=gone,
            allocated=allocated,
            lost=lost,
        )


@dataclass
class Scale:
    """The last POINTS points, `step` seconds apart; of the last scale, POINTS earlier ones too, of
    which `passed` counts those since the last one that was kept."""

    step: float
    aged: AgedObjects
    flow: AgedFlow = field(default_factory=AgedFlow)
    moments: list[float] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    old_moments: list[float] = field(default_factory=list)
    old_points: list[Point] = field(default_factory=list)
    passed: int = 0

    def due(self, seconds: float) -> bool:
        """Whether the next point is due at this tracking time."""
        return not self.moments or seconds - self.moments[-1] >= self.step * (1 - _EARLY)

    def add(self, seconds: float, exact: F64, allocated: F64, lost: float) -> None:
        """Add a point. `exact` (series,) are levels known exactly, NaN where the flow has them."""
        level = np.where(np.isnan(exact), self.flow.come - self.flow.gone, exact)
        self.moments.append(seconds)
        columns = np.stack([level, self.flow.variance, self.flow.gone, allocated])
        self.points.append(Point.of(columns, lost))
        while len(self.points) > POINTS:
            moment, point = self.moments.pop(0), self.points.pop(0)
            if self.step == SCALES[-1][0]:
                self._keep_some(moment, point)

    def _keep_some(self, moment: float, point: Point) -> None:
        if self.passed % SPARSE == 0:
            self.old_moments.append(moment)
            self.old_points.append(point)
            del self.old_moments[:-POINTS], self.old_points[:-POINTS]
        self.passed = (self.passed + 1) % SPARSE

    def stretches(self, count: int) -> list[Stretch]:
        """Return the points of `count` series and, once there are earlier ones, those with one in
        SPARSE of the others, as far apart. Before its first point a series is 0."""
        found = [self._stretch(self.moments, self.points, count)]
        if self.old_points:
            first = -self.passed % SPARSE  # the next one to be kept
            moments = [*self.old_moments, *self.moments[first::SPARSE]]
            points = [*self.old_points, *self.points[first::SPARSE]]
            found.append(self._stretch(moments, points, count))
        return found

    def _stretch(self, times: list[float], points: list[Point], count: int) -> Stretch:
        columns = np.zeros((4, len(points), count))
        columns[3] = np.nan
        for i, point in enumerate(points):
            values = point.unpacked()
            columns[:, i, : values.shape[1]] = values
        level, variance, gone, allocated = columns
        moments = np.array(times)
        whole = Stretch(
            age=self.aged.age,
            taken=moments,
            moments=moments,
            level=level,
            variance=variance,
            gone=gone,
            allocated=allocated,
            lost=np.array([point.lost for point in points]),
        )
        # Before tracking had run for `age` no object could be old.
        return whole.since(int(np.searchsorted(moments, self.aged.age))).without_pauses()

    def keep(self, rows: I64, new: I64) -> None:
        """Drop all series but these; `new` is the number by old number, -1 if dropped."""
        self.flow.grow(len(new))  # some series are newer than the last point
        self.flow.select(rows)
        self.aged.renumber(new)
        self.points = [point.of_series(rows) for point in self.points]
        self.old_points = [point.of_series(rows) for point in self.old_points]

    def extent(self, count: int) -> F64:
        """Return by how many bytes each series differs from its baseline now: (series,)."""
        extent = np.zeros(count)
        if self.points:
            level = self.points[-1].unpacked()[0]
            extent[: len(level)] = np.abs(level)
        return extent

    def still(self, count: int) -> Bool:
        """Return which series have the same level at all points: (series,)."""
        levels = np.concatenate([stretch.level for stretch in self.stretches(count)])
        return np.asarray((levels == levels[-1]).all(0)) if len(levels) else np.ones(count, bool)


def site_key(site: Site) -> Hashable:
    """Return what identifies a call site, as in the view of sites."""
    return site.symbol, site.offset, site.module


def device_key(device: Device) -> Hashable:
    """Return what identifies a device, as in the view of devices."""
    return device.bus, device.name
