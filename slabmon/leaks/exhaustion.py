# SPDX-License-Identifier: Apache-2.0
"""Early findings: unreclaimable kernel memory whose growth will exhaust the host's memory within a
day.

They say nothing of leaks, which take 20 minutes to tell, but of the pace: rate and projection with
intervals, from minutes. What they are based on, /proc/slabinfo and /proc/meminfo, is exact and
known while tracking sleeps; call sites are named as far as tracking has seen them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from slabmon.base.arrays import F64, median
from slabmon.base.format import bytes_text, duration
from slabmon.leaks.attribution import Attribution, attribute_growth, attribute_unreclaimable
from slabmon.leaks.dismissals import (
    BOOT_SECONDS,
    BURST,
    DECLINE_ERRORS,
    FALL,
    SLOWED,
    WARM_UP_SECONDS,
)
from slabmon.leaks.drift import largest_change
from slabmon.leaks.evidence import examined
from slabmon.leaks.finding import Exhaustion, Finding, Kind, Strength
from slabmon.leaks.judge import FALSE_SHARE
from slabmon.leaks.pace import Pace, pace, trend
from slabmon.leaks.series import PAUSE
from slabmon.model import Snapshot

WITHIN_SECONDS = 86400.0
STEP_SECONDS = 10.0
# Growth is watched over these windows, all of which end now. The shortest outlasts a burst of a
# minute; the longest is a 64th of a day (OF_AVAILABLE), and some more.
WINDOWS = (80.0, 160.0, 320.0, 640.0, 960.0, 1440.0)
HOLD_SECONDS = 20.0
# A finding stays for this long after it was confirmed last, unless the memory was freed: pauses of
# a load are no end.
STAY_SECONDS = 60.0
# Growth has to have taken this share of what is available, and of all memory.
OF_AVAILABLE, OF_MEMORY = 1 / 64, 1 / 1000
# Where most of memory is available: this share of all memory is enough, so that the shortest window
# shows 1 % of memory a minute.
ENOUGH_OF_MEMORY = 1 / 80
_EARLY = 0.1  # share of a step by which a point may come early
_LEAST_STEPS = 6  # in a window
_LONGEST_USUAL = 30.0  # seconds between readings, beyond which three such are a pause
_POINTS = round(WINDOWS[-1] / STEP_SECONDS) + 2
_MOST_AMOUNTS = 8192  # beyond which those that are gone are forgotten
_FALLS_SECONDS = 7200.0  # for which a fall is remembered
# By how much the number of objects that go with inodes may differ from that of inodes, as a share:
# /proc/slabinfo counts free objects of the CPUs' own slabs as active (mm/slub.c).
_APART = 0.05
_AGE = 10.0  # seconds: what is freed sooner is churn
_EXPLAINED = 0.5

UNRECLAIMABLE = "unreclaimable slab"
# Lines of /proc/meminfo (fs/proc/meminfo.c). Page-backed kmalloc counts as SUnreclaim.
_TOTALS = {"SUnreclaim": UNRECLAIMABLE, "VmallocUsed": "vmalloc", "Percpu": "per-CPU memory"}

Amount = tuple[Kind, str]


@dataclass
class _Fall:
    """The largest fall of an amount in the last two hours."""

    peak: float
    bytes: float = 0.0
    at: float = 0.0

    def add(self, now: float, level: float) -> None:
        if self.bytes and now - self.at > _FALLS_SECONDS:
            self.peak, self.bytes = level, 0.0
        self.peak = max(self.peak, level)
        if self.peak - level > self.bytes:
            self.bytes, self.at = self.peak - level, now


@dataclass(frozen=True)
class _Window:
    """Growth of one amount over one window."""

    moments: F64
    levels: F64

    @cached_property
    def pace(self) -> Pace:
        """The pace of its growth."""
        return pace(self.moments, self.levels)

    @property
    def seconds(self) -> float:
        return float(self.moments[-1] - self.moments[0])

    @property
    def grown(self) -> float:
        return float(self.levels[-1] - self.levels[0])

    def declines(self, available: float) -> bool:
        """Whether growth slows down, as a cache's does that warms up, so fast that it ends before
        it has used what is available.

        It then decays with the time constant seconds / -change, in which it takes grown / -change
        more. Beyond WARM_UP_SECONDS none is looked for. What has rested, and now grows as fast as
        ever, does not decline.
        """
        change, errors = trend(self.moments, self.levels)
        ends = self.grown < -change * available and self.seconds < -change * WARM_UP_SECONDS
        slower = self._latest(HOLD_SECONDS + STEP_SECONDS) < self.pace.rate
        return ends and slower and -errors > DECLINE_ERRORS

    def since_rise(self) -> _Window:
        """Return the part since growth last sped up, so that what was before neither dilutes its
        pace nor hides its decline; all of it if that part is shorter than any window."""
        rates = np.diff(self.levels) / np.diff(self.moments)
        first = largest_change(rates)
        rose = first > 0 and rates[first:].mean() > rates[:first].mean()
        part = _Window(self.moments[first:], self.levels[first:])
        if not rose or part.seconds < WINDOWS[0] - STEP_SECONDS * _EARLY:
            return self
        return part.since_rise()

    @property
    def is_burst(self) -> bool:
        """Whether most came between two readings."""
        return float(np.diff(self.levels).max()) > BURST * self.grown

    @property
    def levels_off(self) -> bool:
        """Whether its last quarter, or its last half minute, grew at less than half its rate."""
        latest = (self.seconds / 4, HOLD_SECONDS + STEP_SECONDS)
        return any(self._latest(seconds) < SLOWED * self.pace.rate for seconds in latest)

    def _latest(self, seconds: float) -> float:
        """Return the rate of its last so many seconds, or a little more."""
        first = int(np.searchsorted(self.moments, self.moments[-1] - seconds, "right")) - 1
        passed = float(self.moments[-1] - self.moments[first])
        return float(self.levels[-1] - self.levels[first]) / passed


@dataclass(frozen=True, kw_only=True)
class ExhaustionState:
    """What an ExhaustionWatch has watched: `names` are the amounts whose `levels` are known at
    each of the `moments`, (amounts known then,)."""

    boot: str
    names: tuple[Amount, ...]
    moments: tuple[float, ...]
    levels: tuple[F64, ...]
    falls: dict[Amount, _Fall]
    confirmed: dict[Amount, tuple[float, Finding]]
    standing: dict[Amount, float]


class ExhaustionWatch:
    """Takes snapshots as they come, whether or not tracking is awake, and finds what will exhaust
    memory. Bounded by _POINTS, and by the number of caches or _MOST_AMOUNTS. Not thread-safe."""

    def __init__(self) -> None:
        self._boot = ""
        self._begin()

    def _begin(self) -> None:
        self._names: dict[Amount, int] = {}
        self._moments: deque[float] = deque(maxlen=_POINTS)
        self._levels: deque[F64] = deque(maxlen=_POINTS)  # (amounts known then,)
        self._falls: dict[Amount, _Fall] = {}
        self._confirmed: dict[Amount, tuple[float, Finding]] = {}  # when last, and as what
        self._standing: dict[Amount, float] = {}  # since when
        self.findings: tuple[Finding, ...] = ()

    def state(self) -> ExhaustionState:
        """Return what has been watched so far. It shares dictionaries with this watch, whose next
        add() changes them."""
        return ExhaustionState(
            boot=self._boot,
            names=tuple(self._names),
            moments=tuple(self._moments),
            levels=tuple(self._levels),
            falls=self._falls,
            confirmed=self._confirmed,
            standing=self._standing,
        )

    def restore(self, state: ExhaustionState) -> None:
        """Go on from a state, which nothing else may use."""
        self._boot = state.boot
        self._names = {amount: i for i, amount in enumerate(state.names)}
        self._moments = deque(state.moments, _POINTS)
        self._levels = deque(state.levels, _POINTS)
        self._falls, self._confirmed = state.falls, state.confirmed
        self._standing = state.standing
        self.findings = self._lasting()

    def _lasting(self) -> tuple[Finding, ...]:
        """Return what has stood for HOLD_SECONDS now, the fastest first."""
        lasting = [
            finding
            for key, (_, finding) in self._confirmed.items()
            if self._moments[-1] - self._standing[key] >= HOLD_SECONDS
        ]
        return tuple(sorted(lasting, key=lambda finding: -finding.growth))

    @property
    def suspicious(self) -> bool:
        """Whether something is a finding, or will be one if it goes on."""
        return bool(self._standing)

    def add(self, snapshot: Snapshot) -> None:
        """Take the next snapshot. One that comes too soon after the last is ignored; a pause, or
        another boot, begins anew."""
        now = snapshot.taken
        if snapshot.host.boot_id != self._boot or self._is_pause(now):
            self._begin()
            self._boot = snapshot.host.boot_id
        if self._moments and now - self._moments[-1] < STEP_SECONDS * (1 - _EARLY):
            return
        levels = dict(_amounts(snapshot))
        self._take(now, levels)
        for finding in list(self._find(snapshot, levels)):
            self._confirmed[finding_key(finding)] = now, finding
        named = {finding_key(finding) for finding in self.findings}
        self._confirmed = {
            key: (at, finding)
            for key, (at, finding) in self._confirmed.items()
            if now - at <= (STAY_SECONDS if key in named else 0.0) and not self._comes_and_goes(key)
        }
        self._standing = {key: self._standing.get(key, now) for key in self._confirmed}
        self.findings = self._lasting()

    def _is_pause(self, now: float) -> bool:
        """Whether nobody looked for longer than usual, or the clock was set back."""
        if not self._moments:
            return False
        steps = np.diff(self._moments)
        usual = max(_LONGEST_USUAL, median(steps) if len(steps) else 0.0)
        return not 0 <= now - self._moments[-1] <= PAUSE * usual

    def _take(self, now: float, levels: Mapping[Amount, float]) -> None:
        if len(self._names) >= _MOST_AMOUNTS:
            self._forget(levels)
        for amount, level in levels.items():
            self._names.setdefault(amount, len(self._names))
            self._falls.setdefault(amount, _Fall(level)).add(now, level)
        values = np.zeros(len(self._names))
        values[[self._names[amount] for amount in levels]] = list(levels.values())
        self._moments.append(now)
        self._levels.append(values)

    def _forget(self, levels: Mapping[Amount, float]) -> None:
        """Drop the amounts that are gone: names of caches can be new each time."""
        columns = {amount: i for amount, i in self._names.items() if amount in levels}
        self._levels = deque(
            (
                np.array([v[i] if i < len(v) else 0.0 for i in columns.values()])
                for v in self._levels
            ),
            _POINTS,
        )
        self._names = {amount: i for i, amount in enumerate(columns)}
        self._falls = {amount: self._falls[amount] for amount in columns}
        self._confirmed = {key: at for key, at in self._confirmed.items() if key in columns}

    def _find(self, snapshot: Snapshot, levels: Mapping[Amount, float]) -> Iterator[Finding]:
        """Yield what will exhaust memory at its present pace: caches, then totals that they, and
        what is freed with inodes, do not explain."""
        memory = snapshot.host.memory_bytes
        if not memory or _uptime(snapshot) < BOOT_SECONDS:
            return
        available = _available(snapshot)
        enough = min(available * OF_AVAILABLE, memory * ENOUGH_OF_MEMORY)
        least = max(enough, memory * OF_MEMORY)
        with_inodes = _freed_with_inodes(snapshot)
        named = 0.0  # bytes per second
        for amount in levels:
            if amount in with_inodes:
                continue
            window = self._growth(amount, len(levels), least, available)
            if window is None:
                continue
            if amount == (Kind.MEMORY, UNRECLAIMABLE):
                first = -len(window.levels)
                courses = [self._course(other) for other in with_inodes]
                harmless = sum(course[-1] - course[first] for course in courses)
                if named * window.seconds + harmless >= _EXPLAINED * window.grown:
                    continue
            elif amount[0] == Kind.CACHE:
                named += window.pace.rate
            yield _finding(snapshot, amount, window, available, len(levels))

    def _growth(
        self, amount: Amount, tested: int, least: float, available: float
    ) -> _Window | None:
        """Return growth that will exhaust memory, over the longest window that shows it. None if
        there is none."""
        windows = list(self._windows(amount, least))
        if any(window.declines(available) for window in windows):
            return None
        for window in windows:
            p = window.pace.p * tested * len(WINDOWS)  # Bonferroni
            soon = window.pace.low * WITHIN_SECONDS > available
            if p < FALSE_SHARE and soon and not (window.is_burst or window.levels_off):
                return None if self._comes_and_goes(amount) else window
        return None

    def _windows(self, amount: Amount, least: float) -> Iterator[_Window]:
        """Yield the windows in which an amount grew by at least `least`, since its growth last sped
        up, the longest first."""
        levels, moments = self._course(amount), np.array(self._moments)
        before = len(moments)
        for seconds in reversed(WINDOWS):
            due = moments[-1] - seconds + STEP_SECONDS * _EARLY
            first = max(0, int(np.searchsorted(moments, due, "right")) - 1)
            if first == before or len(moments) - first <= _LEAST_STEPS or moments[first] > due:
                continue
            before = first
            window = _Window(moments[first:], levels[first:])
            if window.grown < least:
                continue
            window = window.since_rise()
            if window.grown >= least:
                yield window

    def _comes_and_goes(self, amount: Amount) -> bool:
        """Whether it fell by most of the present growth in the last two hours."""
        levels = self._course(amount)
        return self._falls[amount].bytes > FALL * float(levels[-1] - levels.min())

    def _course(self, amount: Amount) -> F64:
        """Return its levels at all moments; 0 before it was known."""
        column = self._names[amount]
        return np.array([v[column] if column < len(v) else 0.0 for v in self._levels])


def finding_key(finding: Finding) -> Amount:
    """Return the amount that an early finding is about."""
    return finding.kind, finding.name


def _amounts(snapshot: Snapshot) -> Iterator[tuple[Amount, float]]:
    """Yield amounts of memory that the kernel cannot reclaim, in bytes."""
    for cache in snapshot.caches:
        if cache.slabinfo is not None and not cache.reclaimable:
            yield (Kind.CACHE, cache.name), float(cache.slabinfo.slab_bytes)
    if snapshot.memory is not None:
        for line, name in _TOTALS.items():
            if line in snapshot.memory.amounts:
                yield (Kind.MEMORY, name), float(snapshot.memory.amounts[line])


def _freed_with_inodes(snapshot: Snapshot) -> set[Amount]:
    """Return the caches that hold one object of each inode that can be reclaimed.

    It is freed with its inode, but its cache is not marked as reclaimable: lsm_inode_cache
    (security/security.c). The name does not tell, since caches of one size are merged; the number
    of objects does. A leak has it for moments only.
    """
    held = [(c, c.slabinfo.active_objects) for c in snapshot.caches if c.slabinfo]
    inodes = sum(count for c, count in held if c.reclaimable and "inode" in c.name)
    return {
        (Kind.CACHE, cache.name)
        for cache, count in held
        if not cache.reclaimable and abs(count - inodes) < _APART * inodes
    }


def _available(snapshot: Snapshot) -> float:
    """Return the memory that can be used before the host runs out; all of it, if not known."""
    reading = snapshot.memory
    amount = None if reading is None else reading.amounts.get("MemAvailable")
    return float(snapshot.host.memory_bytes if amount is None else amount)


def _uptime(snapshot: Snapshot) -> float:
    return snapshot.tracked.now_ns / 1e9


def _finding(
    snapshot: Snapshot, amount: Amount, window: _Window, available: float, tested: int
) -> Finding:
    kind, name = amount
    start = snapshot.tracking.seconds - window.seconds
    attributed: Attribution | None = None
    if kind == Kind.CACHE:
        attributed = attribute_growth(snapshot, kind, name, start, _AGE)
    elif name == UNRECLAIMABLE:
        attributed = attribute_unreclaimable(snapshot, start, _AGE)
    attribution = replace(attributed or Attribution(), name=name)
    rate = window.pace
    caches = (name,) if kind == Kind.CACHE else attribution.caches
    found = Finding(
        kind=kind,
        key=name,
        name=name,
        module=attribution.module,
        drivers=attribution.drivers,
        devices=attribution.devices,
        caches=caches,
        sites=attribution.sites,
        strength=Strength.EARLY,
        growth=rate.rate * 3600,
        low=rate.low * 3600,
        high=rate.high * 3600,
        window=window.seconds,
        grown=window.grown,
        live=float(window.levels[-1]),
        p=min(1.0, rate.p * tested * len(WINDOWS)),
        evidence_for=tuple(_favouring(snapshot, window, available, attribution)),
        evidence_against=tuple(_contrary(snapshot, window, attribution)),
        callers=attribution.callers,
        holders=attribution.holders,
        aliases={c.name: c.aliases for c in snapshot.caches if c.aliases and c.name in caches},
        exhaustion=Exhaustion(
            available=available,
            seconds=available / rate.rate,
            earliest=available / rate.high,
            latest=available / rate.low,
        ),
    )
    return replace(
        found,
        evidence_for=(*found.evidence_for, *examined(snapshot, found, survived=True)),
        evidence_against=(*found.evidence_against, *examined(snapshot, found, survived=False)),
    )


def _favouring(
    snapshot: Snapshot, window: _Window, available: float, attribution: Attribution
) -> Iterator[str]:
    steps = np.diff(window.levels)
    yield (
        f"it grew by {bytes_text(window.grown)} in {duration(window.seconds)}, in "
        f"{int((steps > 0).sum())} of {len(steps)} readings"
    )
    share = window.pace.rate * 60 / snapshot.host.memory_bytes
    yield f"that is {share:.2%} of memory a minute; {bytes_text(available)} are available"
    if attribution.samples and attribution.holders.processes:
        yield f"most of it was allocated by {', '.join(attribution.holders.processes)}"


def _contrary(snapshot: Snapshot, window: _Window, attribution: Attribution) -> Iterator[str]:
    yield (
        f"watched for {duration(window.seconds)} only: whether it leaks, or is a load that will "
        "end, takes 20 minutes to tell"
    )
    if not attribution.samples:
        yield "no call site is known: none of its growth has been tracked yet"
