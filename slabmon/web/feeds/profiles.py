# SPDX-License-Identifier: Apache-2.0
"""Profiles, made in slices; those of the present are shared by requests for the same reading."""

from __future__ import annotations

import time
from functools import partial
from typing import NamedTuple

from slabmon.analysis.paths import Steps
from slabmon.export.pprof import pprof_steps
from slabmon.sources import SteppedPast
from slabmon.store.recording import TimedSnapshot
from slabmon.web.feeds.duty_cycle import PATIENCE_SECONDS, DutyCycle, FairLock
from slabmon.web.feeds.past_views import WAIT_SECONDS, PastViews
from slabmon.web.feeds.readings import SHARED_SECONDS, Reading

# A slice of the work on the event loop, and how long the next one may wait for its turn.
_SLICE_SECONDS, _PIECE_SECONDS = 0.02, 60.0
# A profile that took long to make is served for as long again.
_REST = 1.0


class _Profile(NamedTuple):
    """A profile, when it was asked for (monotonic), and until when it is served."""

    number: int  # of the reading
    until: float
    data: bytes


class Profiles:
    """The last profile of each value: live, allocated."""

    def __init__(self, duty_cycle: DutyCycle) -> None:
        self._duty_cycle = duty_cycle
        self._lock = FairLock()
        self._last: dict[str, _Profile] = {}

    async def present(self, reading: Reading, value: str, client: str) -> bytes:
        """Return the profile of a reading, or of an earlier one that is still served. Raises
        TimeoutError if too many requests wait."""
        async with self._lock.hold(client, PATIENCE_SECONDS):
            last = self._last.get(value)
            if last and (last.number >= reading.number or time.monotonic() < last.until):
                return last.data
            start = time.monotonic()
            moment = TimedSnapshot(reading.snapshot.taken, reading.snapshot)
            data = await self.make(moment, value, client)
            end = time.monotonic()
            rest = max(SHARED_SECONDS, _REST * (end - start))
            self._last[value] = _Profile(reading.number, end + rest, data)
            return data

    async def past(
        self, views: PastViews, past: SteppedPast, time: float, value: str, client: str
    ) -> bytes:
        """Return the profile of the last snapshot not after `time`. One is read and made at a time,
        so that few snapshots are in memory. Raises TimeoutError if too many requests wait, and the
        errors of the history itself."""
        async with self._lock.hold(client, WAIT_SECONDS):
            moments: list[TimedSnapshot] = []
            await views.snapshot(past, time, moments.append, client=client)
            return await self.make(moments[0], value, client)

    async def make(self, moment: TimedSnapshot, value: str, client: str) -> bytes:
        """Return the profile of a moment. Raises TimeoutError if too many requests wait."""
        steps = pprof_steps(moment, None, value)
        data = None
        while data is None:
            data = await self._duty_cycle.take(partial(_advance, steps), client, _PIECE_SECONDS)
        return data


def _advance(steps: Steps[bytes]) -> bytes | None:
    """Do steps for a slice of time. Return the result after the last one, else None."""
    end = time.monotonic() + _SLICE_SECONDS
    while time.monotonic() < end:
        try:
            next(steps)
        except StopIteration as done:
            result: bytes = done.value
            return result
    return None
