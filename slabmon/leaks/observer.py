# SPDX-License-Identifier: Apache-2.0
"""The verdict engine: takes snapshots as they come, keeps bounded series, and assesses them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from slabmon.analysis.delta import SessionTime, is_interrupted, is_reset
from slabmon.base.activity import Activity, Stage
from slabmon.base.fields import Real
from slabmon.base.losses import lost_frees
from slabmon.leaks.evidence_levels import EvidenceLevels
from slabmon.leaks.exhaustion import ExhaustionState, ExhaustionWatch
from slabmon.leaks.finding import EVIDENCE, Assessment, Finding, Kind
from slabmon.leaks.growth import Case, Established
from slabmon.leaks.judge import judge
from slabmon.leaks.lockstep import in_lockstep
from slabmon.leaks.series import (
    MAX_SERIES,
    PAUSE,
    SCALES,
    Scale,
    Subject,
    Subjects,
    device_key,
    site_key,
)
from slabmon.leaks.subjects import memberships
from slabmon.leaks.survivors import AgedObjects
from slabmon.model import Snapshot

_MAX_BASES = 1 << 16
_ROOM = MAX_SERIES // 8  # for series that are new


@dataclass(frozen=True)
class Patience:
    """`seconds` is the shortest window for a verdict. A finding becomes one after it has stood for
    `hold` seconds without interruption."""

    seconds: float = 1200.0
    hold: float = 120.0


@dataclass(frozen=True, kw_only=True)
class ObserverState:
    """What an Observer has watched: from its `last` snapshot (None while tracking sleeps), `start`
    and the moments in `modules` and `standing` in tracking seconds, the series of these `subjects`
    and the levels that they begin at. The rest is as in Observer."""

    last: SessionTime | None
    start: Real
    interval: Real
    unwatched: Real
    subjects: tuple[Subject, ...]
    scales: tuple[Scale, ...]
    base: dict[Subject, float]
    modules: dict[str, float]
    standing: dict[Subject, float]
    exhaustion: ExhaustionState


class Observer:
    """Takes snapshots of one host as they come, and can be asked for an assessment at any time.

    Memory is bounded by series.MAX_SERIES and series.POINTS. A new tracking session starts from
    scratch, and so does one that wakes, once it samples; what exhausts memory is watched all the
    time. Another process can go on from its state(). Not thread-safe.
    """

    def __init__(self, patience: Patience = Patience()) -> None:
        self.patience = patience
        self._last: SessionTime | None = None
        self._exhaustion = ExhaustionWatch()
        self._begin(0.0)
        self._assessment = self._assess(None)
        self._restored = False  # and not assessed yet

    def _begin(self, seconds: float) -> None:
        self._start = seconds
        self._interval = 0.0  # the last one between snapshots
        self._unwatched = 0.0  # seconds of pauses
        self._subjects = Subjects()
        self._scales = [Scale(step, AgedObjects(age)) for step, age in SCALES]
        self._base: dict[Subject, float] = {}
        self._evidence = EvidenceLevels({})
        self._modules: dict[str, float] = {}
        self._standing: dict[Subject, float] = {}

    def state(self) -> ObserverState:
        """Return what has been watched so far. It shares arrays with the observer, whose next
        add() changes them."""
        return ObserverState(
            last=self._last,
            start=self._start,
            interval=self._interval,
            unwatched=self._unwatched,
            subjects=tuple(self._subjects.number),
            scales=tuple(self._scales),
            base=self._base,
            modules=self._modules,
            standing=self._standing,
            exhaustion=self._exhaustion.state(),
        )

    def restore(self, state: ObserverState) -> None:
        """Go on from a state, which nothing else may use. The next snapshot decides whether it is
        of the same tracking session."""
        self._last = state.last
        self._start, self._interval = state.start, state.interval
        self._unwatched = state.unwatched
        self._subjects = Subjects(state.subjects)
        self._scales = list(state.scales)
        self._base, self._modules = state.base, state.modules
        self._standing = state.standing
        self._evidence = EvidenceLevels(_levels_of_evidence(state))
        self._exhaustion.restore(state.exhaustion)
        self._restored = True

    def add(self, snapshot: Snapshot) -> None:
        """Take the next snapshot. One that is not newer than the last is ignored, except for an
        assessment after restore()."""
        self._exhaustion.add(snapshot)
        last, now = self._last, snapshot.tracking.seconds
        tracking = snapshot.tracking
        # Objects of before are not tracked, so that growth would seem to speed up later.
        if tracking.activity != Activity.AWAKE or tracking.stage == Stage.LIGHT:
            self._begin(now)
            self._last = None
            self._assessment = replace(self._assess(None), activity=tracking.activity)
            return
        if last is None or is_reset(last, snapshot) or is_interrupted(last, snapshot):
            self._begin(now)
            last = None
        elif now > last.tracking.seconds:
            self._notice_pause(now - last.tracking.seconds)
        elif not self._restored:
            return
        self._last = SessionTime(snapshot.host, snapshot.tracking)
        for site in snapshot.sites:
            if site.module and site.module not in self._modules:
                self._modules[site.module] = now if last else -np.inf
        due = [scale for scale in self._scales if scale.due(now)]
        if due:
            self._take(snapshot, due, first=last is None)
        if due or self._restored:
            self._assessment = self._assess(snapshot)
            self._restored = False

    def _notice_pause(self, interval: float) -> None:
        """Do not count a pause as watched time. If intervals stay long, they are the usual ones."""
        usual = max(self._interval, SCALES[0][0])
        if self._interval and interval > PAUSE * usual:
            self._unwatched += interval - usual
        self._interval = interval

    def _take(self, snapshot: Snapshot, due: list[Scale], first: bool) -> None:
        if len(self._subjects.number) >= MAX_SERIES:
            self._forget()
        positions = [scale.aged.select(snapshot.tracked) for scale in due]
        rows = [memberships(snapshot, aged, self._subjects.get) for aged in positions]
        levels = dict(self._exact(snapshot, first))
        count = len(self._subjects.number)
        exact, allocated = np.full(count, np.nan), np.full(count, np.nan)
        exact[list(levels)] = list(levels.values())
        for row, value in self._allocated(snapshot):
            allocated[row] = value
        lost = float(lost_frees(snapshot.losses))
        for scale, aged, members in zip(due, positions, rows, strict=True):
            scale.flow.grow(count)
            scale.aged.advance(snapshot.tracked, aged, members, scale.flow)
            scale.add(snapshot.tracking.seconds, exact, allocated, lost)

    def _exact(self, snapshot: Snapshot, first: bool) -> Iterable[tuple[int, float]]:
        """Yield row and level, in bytes relative to the baseline, of the series that are known
        without sampling."""
        for cache in snapshot.caches:
            if cache.frees_observable:
                yield from self._level(
                    (Kind.NET, cache.name), cache.allocated_bytes - cache.freed_bytes, first
                )
            elif cache.slabinfo:
                held = cache.slabinfo.active_objects * cache.slabinfo.object_size
                yield from self._level((Kind.NET, (cache.name, "slabinfo")), held, first)
        for device in snapshot.devices:
            yield from self._level((Kind.DEVICE, device_key(device)), device.managed_bytes, first)
        for subject in self._evidence.add(snapshot):
            self._base.pop(subject, None)
        for subject, level in self._evidence.levels.items():
            # It is a level of its own from when it is seen: no process begins with no descriptors,
            # and kills from before a cgroup held objects that are tracked are not news.
            yield from self._level(subject, level, subject not in self._base)

    def _level(self, subject: Subject, value: float, first: bool) -> Iterable[tuple[int, float]]:
        # The first level seen is the baseline; a series that appears later has baseline 0. One that
        # never changes is not followed.
        if len(self._base) >= _MAX_BASES and subject not in self._base:
            return
        base = self._base.setdefault(subject, float(value) if first else 0.0)
        if value != base or subject in self._subjects.number:
            row = self._subjects.get(subject)
            if row >= 0:
                yield row, value - base

    def _allocated(self, snapshot: Snapshot) -> Iterable[tuple[int, float]]:
        """Yield row and bytes allocated since tracking began, of the series followed."""
        number = self._subjects.number
        modules: dict[Hashable, int] = {}
        for site in snapshot.sites:
            row = number.get((Kind.SITE, site_key(site)))
            if row is not None:
                yield row, site.allocated_bytes
            if site.module:
                modules[site.owner] = modules.get(site.owner, 0) + site.allocated_bytes
        for key, total in modules.items():
            if (Kind.DRIVER, key) in number:
                yield number[Kind.DRIVER, key], total
        for cache in snapshot.caches:
            for subject in ((Kind.CACHE, cache.name), (Kind.NET, cache.name)):
                if subject in number:
                    yield number[subject], cache.allocated_bytes

    def _forget(self) -> None:
        """Drop series that do not change at any scale, then the smallest until there is room."""
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
        """For how many seconds this tracking session has been watched, without pauses."""
        if self._last is None:
            return 0.0
        return self._last.tracking.seconds - self._start - self._unwatched

    @property
    def suspicious(self) -> bool:
        """Whether some growth is a verdict, or will be one if it stands for long enough."""
        return bool(self._standing) or self._exhaustion.suspicious

    def assess(self) -> Assessment:
        """Return the current assessment. It is renewed with each point, at most every
        SCALES[0][0] seconds."""
        return replace(
            self._assessment, observed=self.observed, exhausting=self._exhaustion.findings
        )

    def _assess(self, snapshot: Snapshot | None) -> Assessment:
        subjects, patience = list(self._subjects.number), self.patience
        findings: list[Finding] = []
        tested = 0
        established: dict[Subject, Established] = {}
        now = snapshot.tracking.seconds if snapshot else 0.0
        if snapshot is not None:
            stretches = [s for scale in self._scales for s in scale.stretches(len(subjects))]
            case = Case(
                now=snapshot,
                subjects=subjects,
                stretches=[stretch for stretch in stretches if len(stretch.moments)],
                modules=self._modules,
                seconds=patience.seconds,
            )
            findings, established, tested = judge(case)
        verdicts = [finding for finding in findings if not finding.dismissed]
        self._standing = self._stood_since(verdicts, established, now)
        lasting = [f for f in verdicts if now - self._standing[f.kind, f.key] >= patience.hold]
        if len(lasting) > 1:
            lasting = in_lockstep(case, lasting, established)
        return Assessment(
            observed=self.observed,
            needed=patience.seconds + SCALES[0][1],
            series=tested,
            left_out=len(self._subjects.left_out),
            memory=snapshot.host.memory_bytes if snapshot else 0,
            verdicts=tuple(lasting),
            dismissed=tuple(finding for finding in findings if finding.dismissed),
        )

    def _stood_since(
        self, verdicts: list[Finding], established: dict[Subject, Established], now: float
    ) -> dict[Subject, float]:
        """Return since when each verdict has stood. One that now explains an earlier one, of the
        same call sites, has stood since that has."""
        subjects = [(verdict.kind, verdict.key) for verdict in verdicts]
        explained = [
            (since, set(established[subject].attribution.bytes_by_site))
            for subject, since in self._standing.items()
            if subject in established and subject not in subjects
        ]
        standing = {}
        for subject in subjects:
            since = self._standing.get(subject, now)
            found = established.get(subject)
            sites = set(found.attribution.bytes_by_site) if found else set()
            standing[subject] = min([since, *(s for s, others in explained if others & sites)])
        return standing


def _levels_of_evidence(state: ObserverState) -> dict[Subject, float]:
    """Return the level of each subject of evidence at the last point; its baseline if it has no
    series, since it has not changed."""
    points = state.scales[0].points
    latest = points[-1].unpacked()[0].tolist() if points else []
    changed = dict(zip(state.subjects, latest, strict=False))  # some are newer than the point
    return {
        subject: base + changed.get(subject, 0.0)
        for subject, base in state.base.items()
        if subject[0] in EVIDENCE
    }
