"""The daemon's kernel side: one thread owns the tracker; everything that reads it runs there."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from slabmon.export.prometheus import SnapshotCollector, registry
from slabmon.kernel import bpf
from slabmon.kernel.tracker import Tracker
from slabmon.model import Snapshot

log = logging.getLogger(__name__)
T = TypeVar("T")

# Scrapers that come together share one reading.
SHARED_SECONDS = 0.5
DRAIN_SECONDS = 1.0
STATS_PERIOD_SECONDS, STATS_WINDOW_SECONDS = 60.0, 1.0
WALK_PERIOD_SECONDS = 600.0


class Service:
    """Snapshots on demand, and what has to be done in between."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._thread = ThreadPoolExecutor(1, "tracker")
        self._last: Snapshot | None = None
        self._last_at = 0.0
        self._last_seconds = 0.0
        self.registry = registry(SnapshotCollector(self.snapshot, lambda: self._last_seconds))

    async def run(self, work: Callable[[], T]) -> T:
        """Runs in the tracker's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def snapshot(self) -> Snapshot:
        """The current snapshot, at most SHARED_SECONDS old. Call it in the tracker's thread."""
        start = time.monotonic()
        if self._last is None or start - self._last_at > SHARED_SECONDS:
            self._last = self._tracker.snapshot()
            self._last_at = time.monotonic()
            self._last_seconds = self._last_at - start
        return self._last

    async def keep_up(self) -> None:
        """Drains kernel events, walks the devices now and then, and switches BPF statistics on
        for a short window, until cancelled."""
        next_stats = next_walk = time.monotonic()
        next_walk += WALK_PERIOD_SECONDS
        while True:
            now = time.monotonic()
            if now >= next_stats:
                next_stats = now + STATS_PERIOD_SECONDS
                await self._stats_window()
            if now >= next_walk:
                next_walk = now + WALK_PERIOD_SECONDS
                await self.run(self._tracker.reconcile_devices)
            await self.run(self._tracker.drain)
            await asyncio.sleep(DRAIN_SECONDS)

    async def _stats_window(self) -> None:
        try:
            descriptor = bpf.enable_stats()
        except OSError as error:
            log.warning("BPF statistics cannot be switched on: %s", error.strerror)
            return
        try:
            await asyncio.sleep(STATS_WINDOW_SECONDS)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Waits for work under way."""
        self._thread.shutdown()
