# SPDX-License-Identifier: Apache-2.0
"""Decides when allocation events are counted, and how closely objects are tracked: while something
grows or fails, while somebody looks, and by the clock (tracking.when = "auto"). Page events are
counted while memory grows that no counter names."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from slabmon.analysis.rising import (
    PERIOD_SECONDS,
    Failures,
    FailureWatch,
    Growth,
    Level,
    Rising,
)
from slabmon.base.activity import Stage
from slabmon.base.errors import SlabmonError
from slabmon.base.format import duration, human
from slabmon.kernel.levels import UNCOUNTED
from slabmon.kernel.settings import Settings, When
from slabmon.runtime.event_loop import EventLoop

log = logging.getLogger(__name__)

# Tracking sleeps when there was no reason to be awake for this long: a verdict takes about 20
# minutes.
AWAKE_SECONDS = 1800.0
# What grew within a minute may be given back as soon: for this long nearly nothing is sampled.
LIGHT_SECONDS = 120.0
_GIVEN_BACK = 0.5
REQUESTED = "somebody looks, or growth is being judged"
SCHEDULED = "tracking.wake_interval has passed"
ALWAYS = "tracking.when is always"


class Tracking(Protocol):
    """The part of Tracker that wakes and sleeps."""

    @property
    def awake(self) -> bool:
        """Whether allocation events are counted."""
        ...

    @property
    def stage(self) -> Stage:
        """How closely objects are tracked."""
        ...

    def wake(self, reason: str) -> None:
        """Count them again."""
        ...

    def sleep(self) -> None:
        """Stop counting them."""
        ...

    def set_stage(self, stage: Stage) -> None:
        """Track objects more or less closely."""
        ...

    def watch_pages(self, watched: bool) -> None:
        """Count page events too, until sleep(), or stop that."""
        ...


class Sources(Protocol):
    """What tracking wakes by, as it can be read while it sleeps."""

    @property
    def memory(self) -> int:
        """The host's memory in bytes."""
        ...

    def levels(self, now: float) -> Mapping[str, Level]:
        """Return amounts of memory by name, at a moment in seconds."""
        ...

    def failures(self) -> Mapping[str, Failures]:
        """Return counters of failures by what they count."""
        ...


@dataclass(frozen=True)
class _Doubt:
    """Growth that may be given back: of which amount, from which level, until when."""

    name: str
    before: int
    grown: int
    until: float


class Waking:
    """Wakes a session and lets it sleep, as its settings say."""

    def __init__(
        self,
        loop: EventLoop,
        tracking: Tracking,
        settings: Settings,
        sources: Sources,
    ) -> None:
        self._loop = loop
        self._tracking = tracking
        self._when = settings.when
        self._interval = settings.wake_seconds
        self._sources = sources
        self._rising = Rising(sources.memory)
        self._failures = FailureWatch()
        self._until = loop.time() + (AWAKE_SECONDS if tracking.awake else 0.0)
        self._scheduled = loop.time() + self._interval
        self._reason = ALWAYS
        self._refused = False
        self._doubt: _Doubt | None = None
        self._pages_until = 0.0  # page events are counted, which costs more
        # An earlier daemon may have left the session in a state that these settings exclude.
        if self._when == When.ALWAYS:
            self._wake()
            loop.every(PERIOD_SECONDS, self._wake)
        elif self._when == When.OFF:
            self._tracking.sleep()
        else:
            self._failures.add(loop.time(), sources.failures())
            loop.every(PERIOD_SECONDS, self._look)

    def request(self) -> None:
        """Be awake for AWAKE_SECONDS from now on, where tracking.when is auto."""
        if self._when == When.AUTO:
            self._need(REQUESTED)

    def _look(self) -> None:
        now = self._loop.time()
        levels = self._sources.levels(now)
        growth = self._rising.add(now, levels)
        for failing in self._failures.add(now, self._sources.failures()):
            self._need(f"{failing.number} {failing.name}")
        if growth:
            self._grows(named(growth), levels)
        self._follow_pages(now, growth)
        if self._interval and now >= self._scheduled:
            self._scheduled = now + self._interval
            self._need(SCHEDULED)
        self._settle(now, levels)
        if now < self._until:
            self._wake()
        elif self._tracking.awake:
            self._sleep("nothing grew for long enough")

    def _follow_pages(self, now: float, growth: Sequence[Growth]) -> None:
        """Watch pages from when memory grows that no counter names until it no longer does."""
        if any(rise.name == UNCOUNTED for rise in growth):
            if not self._pages_until:
                log.info("pages are watched: %s grows", UNCOUNTED)
            self._pages_until = now + AWAKE_SECONDS
            self._tracking.watch_pages(True)
        elif self._pages_until and now >= self._pages_until:
            self._pages_until = 0.0
            self._tracking.watch_pages(False)

    def _grows(self, growth: Growth, levels: Mapping[str, Level]) -> None:
        name, grown, seconds, brief = growth
        reason = f"{name} grew by {human(grown, 'bytes')} in {duration(seconds)}"
        if brief and not self._tracking.awake and not self._doubt:
            now = self._loop.time()
            self._doubt = _Doubt(name, levels[name].bytes - grown, grown, now + LIGHT_SECONDS)
            self._until, self._reason = self._doubt.until + PERIOD_SECONDS, reason
            return
        self._need(reason, seconds)

    def _settle(self, now: float, levels: Mapping[str, Level]) -> None:
        """Look closer when what grew within a minute was not given back in time, or sleep."""
        doubt = self._doubt
        if doubt is None or now < doubt.until:
            return
        self._doubt = None
        level = levels.get(doubt.name, Level(0)).bytes
        if level - doubt.before >= _GIVEN_BACK * doubt.grown:
            self._need(f"{self._reason}, and most of it stayed")
        else:
            self._until = now
            self._sleep(f"{doubt.name} gave back what it grew by")

    def _need(self, reason: str, seconds: float = 0.0) -> None:
        """Be awake for AWAKE_SECONDS, or as long as it took to notice the reason, and sample."""
        until = self._loop.time() + max(AWAKE_SECONDS, seconds)
        self._until = max(self._until, until)
        self._doubt, self._reason = None, reason
        if not self._refused:
            self._wake()

    def _sleep(self, why: str) -> None:
        if not self._tracking.awake:
            return
        self._tracking.sleep()
        log.info("tracking sleeps: %s", why)

    def _wake(self) -> None:
        """Wake, unless awake. What the kernel refuses is tried again every PERIOD_SECONDS."""
        self._follow_stage()
        if self._tracking.awake:
            return
        try:
            self._tracking.wake(self._reason)
        except SlabmonError as error:
            if not self._refused:
                log.error("tracking cannot wake: %s", error)
            self._refused = True
        else:
            self._refused = False
            log.info("tracking wakes: %s; stage %s", self._reason, self._tracking.stage)

    def _follow_stage(self) -> None:
        if self._when != When.AUTO:
            return
        before = self._tracking.stage
        stage = Stage.LIGHT if self._doubt else Stage.SAMPLED
        if stage == before:
            return
        self._tracking.set_stage(stage)
        if self._tracking.awake:
            log.info("tracking is %s now, not %s: %s", stage, before, self._reason)


def named(growth: list[Growth]) -> Growth:
    """Return the growth to name: the most, and if that is a cgroup's, that of the lowest cgroup
    below it that grew by most of it."""
    most = growth[0]
    below = [
        other
        for other in growth
        if other.name.startswith(f"{most.name}/") and other.bytes >= _GIVEN_BACK * most.bytes
    ]
    return max(below, key=lambda other: other.name.count("/"), default=most)
