# SPDX-License-Identifier: Apache-2.0
"""Decides when allocation events are counted: while something grows, while somebody looks, and by
the clock (tracking.when = "auto")."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from slabmon.analysis.rising import PERIOD_SECONDS, Level, Rising
from slabmon.base.errors import SlabmonError
from slabmon.base.format import duration, human
from slabmon.kernel.settings import Settings, When
from slabmon.runtime.event_loop import EventLoop

log = logging.getLogger(__name__)

# Tracking sleeps when there was no reason to be awake for this long: a verdict takes about 20
# minutes.
AWAKE_SECONDS = 1800.0
REQUESTED = "somebody looks, or growth is being judged"
SCHEDULED = "tracking.wake_interval has passed"
ALWAYS = "tracking.when is always"


class Tracking(Protocol):
    """The part of Tracker that wakes and sleeps."""

    @property
    def awake(self) -> bool:
        """Whether allocation events are counted."""
        ...

    def wake(self, reason: str) -> None:
        """Count them again."""
        ...

    def sleep(self) -> None:
        """Stop counting them."""
        ...


class Waking:
    """Wakes a session and lets it sleep, as its settings say.

    `levels` reads the amounts of memory to watch, `memory` is the host's in bytes.
    """

    def __init__(
        self,
        loop: EventLoop,
        tracking: Tracking,
        settings: Settings,
        levels: Callable[[], Mapping[str, Level]],
        memory: int,
    ) -> None:
        self._loop = loop
        self._tracking = tracking
        self._when = settings.when
        self._interval = settings.wake_seconds
        self._levels = levels
        self._rising = Rising(memory)
        self._until = loop.time() + (AWAKE_SECONDS if tracking.awake else 0.0)
        self._scheduled = loop.time() + self._interval
        self._reason = ALWAYS
        self._refused = False
        # An earlier daemon may have left the session in a state that these settings exclude.
        if self._when == When.ALWAYS:
            self._wake()
            loop.every(PERIOD_SECONDS, self._wake)
        elif self._when == When.OFF:
            self._tracking.sleep()
        else:
            loop.every(PERIOD_SECONDS, self._look)

    def request(self) -> None:
        """Be awake for AWAKE_SECONDS from now on, where tracking.when is auto."""
        if self._when == When.AUTO:
            self._need(REQUESTED)

    def _look(self) -> None:
        growth = self._rising.add(self._loop.time(), self._levels())
        if growth:
            name, grown, seconds = growth[0]
            self._need(f"{name} grew by {human(grown, 'bytes')} in {duration(seconds)}")
        if self._interval and self._loop.time() >= self._scheduled:
            self._scheduled = self._loop.time() + self._interval
            self._need(SCHEDULED)
        if self._loop.time() < self._until:
            self._wake()
        elif self._tracking.awake:
            self._tracking.sleep()
            log.info("tracking sleeps: nothing grew for %s", duration(AWAKE_SECONDS))

    def _need(self, reason: str) -> None:
        self._until = self._loop.time() + AWAKE_SECONDS
        self._reason = reason
        if not self._refused:
            self._wake()

    def _wake(self) -> None:
        """Wake, unless awake. What the kernel refuses is tried again every PERIOD_SECONDS."""
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
            log.info("tracking wakes: %s", self._reason)
