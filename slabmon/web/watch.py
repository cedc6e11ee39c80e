"""Watching for leaks: readings go to the verdict engine at a steady pace, whoever asks or not."""

from __future__ import annotations

import asyncio
import logging

from slabmon.analysis.verdicts.finding import Assessment
from slabmon.analysis.verdicts.observer import Observer
from slabmon.web.readings import Source

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 10.0


class Watch:
    """What this process has seen since it began."""

    def __init__(self) -> None:
        self._observer = Observer()

    async def follow(self, source: Source) -> None:
        """Feeds the engine until cancelled."""
        while True:
            now = await source.now()
            if now.reading is not None and not now.problem:
                try:
                    self._observer.add(now.reading.snapshot)
                except Exception:
                    # A bug here must not take the metrics with it.
                    log.exception("a reading could not be judged")
                    self._observer = Observer()
            await asyncio.sleep(INTERVAL_SECONDS)

    def assessment(self) -> Assessment:
        """What can be said now."""
        return self._observer.assess()
