# SPDX-License-Identifier: Apache-2.0
"""The daemon's web side over a recording: the same page, metrics and API, at another time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Sequence

from slabmon.base.clock import boottime
from slabmon.base.errors import SlabmonError, UsageError
from slabmon.sources.recording import RecordingSource
from slabmon.web.app import make_app
from slabmon.web.feeds.readings import CensusNow, Now, Reading
from slabmon.web.handlers.base import Context
from slabmon.web.serving.server import Server

log = logging.getLogger(__name__)


class ReplayedReadings:
    """A ReadingSource over a recording: the last snapshot before the replay's current time."""

    timeouts = failures = 0

    def __init__(self, source: RecordingSource) -> None:
        self._source = source
        self._moment = 0.0
        self._last: Reading | None = None

    def want_tracking(self) -> None:
        """See ReadingSource. What is recorded stays as it is."""

    def doubt(self, kind: str, name: str) -> bool:
        """See ReadingSource. What is recorded stays as it is."""
        return False

    async def now(self, detailed: bool = False) -> Now:
        """See ReadingSource. A damaged snapshot is a problem until the replay has passed it."""
        start = time.monotonic()
        try:
            moment, snapshot = self._source.recording.at(self._source.clock.now)
        except SlabmonError as error:
            self.failures += 1
            return self._now(str(error))
        if self._last is None or moment != self._moment:
            number = self._last.number + 1 if self._last else 1
            seconds = time.monotonic() - start
            self._last = Reading(number, boottime(), seconds, True, snapshot)
            self._moment = moment
        return self._now()

    def _now(self, problem: str = "") -> Now:
        census = self._last.snapshot.census if self._last else None
        return Now(self._last, None, problem, census)

    async def census(self, max_age: float) -> CensusNow:
        """See CensusSource. Raises UsageError if none had been recorded by then."""
        now = await self.now()
        if now.census is None:
            raise UsageError("no census had been recorded at this moment of the recording")
        return CensusNow(now.census, int(now.census.taken * 1000))


async def serve(
    source: RecordingSource, context: Context, listeners: Sequence[socket.socket]
) -> None:
    """Serve until SIGINT or SIGTERM; growth is known at once, from what was recorded before."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    readings = ReplayedReadings(source)
    context.source, context.censuses, context.past = readings, readings, source
    with contextlib.suppress(SlabmonError):  # a damaged moment, which readings tell
        context.live.begin(source, source.at(source.clock.now))
    server = Server(make_app(context), context.connections, context.settings)
    server.listen_on(listeners)
    keeping = asyncio.create_task(context.live.keep(readings))
    await stop.wait()
    keeping.cancel()
    await server.drain()
