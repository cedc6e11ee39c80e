# SPDX-License-Identifier: Apache-2.0
"""The verdict engine's memory: fed with snapshots, bounded, asked for an assessment."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from slabmon.analysis.delta import is_reset
from slabmon.base.losses import lost_frees
from slabmon.leaks.finding import CACHE, DEVICE, DRIVER, NET, SITE, Assessment, Finding
from slabmon.leaks.growth import Case
from slabmon.leaks.judge import judge
from slabmon.leaks.series import MAX_SERIES, SCALES, Scale, Subject, Subjects, device_key, site_key
from slabmon.model import Snapshot

_MAX_BASES = 1 << 16
_ROOM = MAX_SERIES // 8  # for series that are new


@dataclass(frozen=True)
class Patience:
    """`seconds`: the shortest window for a verdict; whatever is found has to be found for `hold`
    seconds on end before it is one."""

    seconds: float = 1200.0
    hold: float = 120.0


class Observer:
    """Takes snapshots of one host as they come; says at any time what can be said.

    Memory is bounded by series.MAX_SERIES and series.POINTS; a new tracking session begins anew.
    Used by one thread at a time.
    """

    def __init__(self, patience: Patience = Patience()) -> None:
        self.patience = patience
        self._last: Snapshot | None = None
        self._begin(0.0)
        self._assessment = self._assess()

    def _begin(self, seconds: float) -> None:
        self._start = seconds
        self._subjects = Subjects()
        self._scales = [Scale(step, age) for step, age in SCALES]
        self._base: dict[Subject, float] = {}
        self._modules: dict[str, float] = {}
        self._standing: dict[tuple[str, Hashable], float] = {}

    def add(self, snapshot: Snapshot) -> None:
        """The next snapshot; one that is not newer changes nothing."""
        last, now = self._last, snapshot.tracking.seconds
        if last is None or is_reset(last, snapshot):
            self._begin(now)
            last = None
        elif now <= last.tracking.seconds:
            return
        self._last = snapshot
        for site in snapshot.sites:
            if site.module and site.module not in self._modules:
                self._modules[site.module] = now if last else -np.inf
        due = [scale for scale in self._scales if scale.due(now)]
        if due:
            self._take(snapshot, due, first=last is None)
            self._assessment = self._assess()

    def _take(self, snapshot: Snapshot, due: list[Scale], first: bool) -> None:
        if len(self._subjects.number) >= MAX_SERIES:
            self._forget()
        chosen = [scale.old.select(snapshot.tracked) for scale in due]
        rows = [self._rows(snapshot, which) for which in chosen]
        levels = dict(self._exact(snapshot, first))
        count = len(self._subjects.number)
        exact, allocated = np.full(count, np.nan), np.full(count, np.nan)
        exact[list(levels)] = list(levels.values())
        for row, value in self._allocated(snapshot):
            allocated[row] = value
        lost = float(lost_frees(snapshot.losses))
        for scale, which, members in zip(due, chosen, rows, strict=True):
            scale.flow.grow(count)
            scale.old.look(snapshot.tracked, which, members, scale.flow)
            scale.add(snapshot.tracking.seconds, exact, allocated, lost)

    def _rows(self, snapshot: Snapshot, which: np.ndarray) -> np.ndarray:
        """Series of these tracked objects: by site, module and cache. Objects of caches whose
        frees cannot all be seen belong to none: they may be gone."""
        tracked, get = snapshot.tracked, self._subjects.get
        sites, caches = tracked.site[which], tracked.cache[which]
        site_row = np.full(len(snapshot.sites) + 1, -1)
        module_row, cache_row = site_row.copy(), np.full(len(snapshot.caches) + 1, -1)
        for i in np.unique(sites).tolist():
            site = snapshot.sites[i]
            site_row[i] = get((SITE, site_key(site)))
            if site.module:
                module_row[i] = get((DRIVER, site.owner))
        for i in np.unique(caches).tolist():
            cache_row[i] = get((CACHE, snapshot.caches[i].name))
        rows = np.stack([site_row[sites], module_row[sites], cache_row[caches]])
        seen = np.array([cache.frees_observable for cache in snapshot.caches] or [True])
        rows[:, ~seen[caches]] = -1
        return rows

    def _exact(self, snapshot: Snapshot, first: bool) -> Iterable[tuple[int, float]]:
        """Levels that need no sampling, since each was first seen."""
        for cache in snapshot.caches:
            if cache.frees_observable:
                yield from self._level(
                    (NET, cache.name), cache.allocated_bytes - cache.freed_bytes, first
                )
            elif cache.slabinfo:
                held = cache.slabinfo.active_objects * cache.slabinfo.object_size
                yield from self._level((NET, (cache.name, "slabinfo")), held, first)
        for device in snapshot.devices:
            yield from self._level((DEVICE, device_key(device)), device.managed_bytes, first)

    def _level(self, subject: Subject, value: float, first: bool) -> Iterable[tuple[int, float]]:
        # What was there at the beginning, be it from before, is where growth is counted from; what
        # comes later starts at nothing. What never changes needs no series.
        if len(self._base) >= _MAX_BASES and subject not in self._base:
            return
        base = self._base.setdefault(subject, value if first else 0.0)
        if value != base or subject in self._subjects.number:
            row = self._subjects.get(subject)
            if row >= 0:
                yield row, value - base

    def _allocated(self, snapshot: Snapshot) -> Iterable[tuple[int, float]]:
        number = self._subjects.number
        modules: dict[Hashable, int] = {}
        for site in snapshot.sites:
            row = number.get((SITE, site_key(site)))
            if row is not None:
                yield row, site.allocated_bytes
            if site.module:
                modules[site.owner] = modules.get(site.owner, 0) + site.allocated_bytes
        for key, total in modules.items():
            if (DRIVER, key) in number:
                yield number[DRIVER, key], total
        for cache in snapshot.caches:
            for subject in ((CACHE, cache.name), (NET, cache.name)):
                if subject in number:
                    yield number[subject], cache.allocated_bytes

    def _forget(self) -> None:
        """Gives up series that do not change at any scale, and the smallest until there is room."""
        count = len(self._subjects.number)
        changing = np.flatnonzero(~np.all([scale.still(count) for scale in self._scales], axis=0))
        extent = np.max([scale.extent(count) for scale in self._scales], axis=0)
        largest = changing[np.argsort(-extent[changing], kind="stable")][: MAX_SERIES - _ROOM]
        rows = np.sort(largest)
        new = self._subjects.keep(rows)
        for scale in self._scales:
            scale.keep(rows, new)

    @property
    def observed(self) -> float:
        """For how long this tracking session has been watched, in seconds."""
        return self._last.tracking.seconds - self._start if self._last else 0.0

    def assess(self) -> Assessment:
        """What can be said now. Judged is at most every SCALES[0][0] seconds, as snapshots come."""
        return replace(self._assessment, observed=self.observed)

    def _assess(self) -> Assessment:
        subjects, patience = list(self._subjects.number), self.patience
        found: list[Finding] = []
        tested = 0
        if self._last is not None:
            every = (scale.stretch(len(subjects)) for scale in self._scales)
            stretches = [stretch for stretch in every if len(stretch.moments)]
            case = Case(self._last, subjects, stretches, self._modules, patience.seconds)
            found, tested = judge(case)
        verdicts = [finding for finding in found if not finding.dismissed]
        now = self._last.tracking.seconds if self._last else 0.0
        self._standing = {
            (f.kind, f.key): self._standing.get((f.kind, f.key), now) for f in verdicts
        }
        return Assessment(
            self.observed,
            patience.seconds + SCALES[0][1],
            tested,
            len(self._subjects.left_out),
            self._last.host.memory_bytes if self._last else 0,
            tuple(f for f in verdicts if now - self._standing[f.kind, f.key] >= patience.hold),
            tuple(finding for finding in found if finding.dismissed),
        )
