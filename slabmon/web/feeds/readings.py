# SPDX-License-Identifier: Apache-2.0
"""Readings from the collector. Concurrent requests share one, and none waits longer than the
budget."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from slabmon.base.clock import boottime
from slabmon.base.errors import SlabmonError
from slabmon.census.codec import decode as decode_census
from slabmon.census.model import Census
from slabmon.model import Snapshot
from slabmon.runtime.channel import (
    ALIVE,
    ALIVE_SECONDS,
    CENSUS,
    DETAILED,
    DOUBT,
    HEADER_BYTES,
    PLAIN,
    RETIRE,
    TAKE_CENSUS,
    WANTED,
    Answer,
    Header,
    ProtocolError,
    doubt_digest,
)
from slabmon.runtime.figures import CensusFigures, DaemonFigures
from slabmon.store.codec import BadSnapshot, decode

log = logging.getLogger(__name__)

# How long a reading is served to later requests.
SHARED_SECONDS = 0.5
# Between messages that tracking is wanted.
WANTED_SECONDS = 10.0
# Between doubts: the collector takes few of them.
DOUBT_SECONDS = 30.0


@dataclass(frozen=True)
class Reading:
    """A snapshot, with the last census.

    `number` counts the readings of this process, `at` is the time of its arrival (boottime()),
    `seconds` the time since it was requested.
    """

    number: int
    at: float
    seconds: float
    detailed: bool
    snapshot: Snapshot

    @property
    def age(self) -> float:
        """Seconds since it arrived."""
        return boottime() - self.at


@dataclass(frozen=True)
class Now:
    """The data that a request is answered from: the last reading, if any, the collector's last
    report on itself, and why there is no fresh reading (`problem`, empty if there is)."""

    reading: Reading | None
    figures: DaemonFigures | None
    problem: str = ""
    census: Census | None = None


@dataclass(frozen=True)
class CensusNow:
    """What a request for a census is answered from: the last census and its number, if any, how the
    next one is going, and why there are no newer ones (`problem`, empty if there may be)."""

    census: Census | None = None
    number: int = 0
    figures: CensusFigures = field(default_factory=CensusFigures)
    problem: str = ""


class PendingRequest(NamedTuple):
    """A command under way; `answered` resolves to the problem, empty for none."""

    command: bytes
    at: float
    answered: asyncio.Future[str]

    def gives(self, detailed: bool) -> bool:
        """Return whether its answer is a reading, with details if `detailed`."""
        return self.command == DETAILED or (self.command == PLAIN and not detailed)


class ReadingSource(Protocol):
    """A source of readings: the collector, or a recording."""

    timeouts: int
    failures: int

    async def now(self, detailed: bool = False) -> Now:
        """Return a reading at most SHARED_SECONDS old, or the last one and the problem."""
        ...

    def want_tracking(self) -> None:
        """Ask for allocation events to be counted from now on, if they are not always."""
        ...

    def doubt(self, kind: str, name: str) -> bool:
        """Ask for a closer look at a suspect of kind cache or site, or for a census. Return False
        if it is too soon for that."""
        ...


class CensusSource(Protocol):
    """A source of censuses: the collector."""

    async def census(self, max_age: float) -> CensusNow:
        """Return the last census. If it is more than `max_age` seconds old, a new one is requested,
        but not waited for."""
        ...


class Channel:
    """The web process's end of the channel to the collector. At most one command is under way."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        budget: float,
        on_retire: Callable[[], None],
    ) -> None:
        self._reader, self._writer = reader, writer
        self._budget = budget
        self._on_retire = on_retire
        self._last: Reading | None = None
        self._census: Census | None = None
        self._census_number = 0
        self._requested_at = -SHARED_SECONDS
        self._wanted_at = -WANTED_SECONDS
        self._doubted_at = -DOUBT_SECONDS
        self._figures: DaemonFigures | None = None
        self._count = 0
        self._under_way: PendingRequest | None = None
        self._broken = ""
        self.closed = asyncio.Event()
        self.timeouts = self.failures = 0
        self._tasks = [asyncio.create_task(work()) for work in (self._receive, self._show_life)]

    def _now(self, problem: str = "") -> Now:
        return Now(self._last, self._figures, problem, self._census)

    async def now(self, detailed: bool = False) -> Now:
        """See ReadingSource."""
        deadline = asyncio.get_running_loop().time() + self._budget
        while True:
            last = None if self.closed.is_set() else self._last  # old once the collector is gone
            if last and last.age <= SHARED_SECONDS and (last.detailed or not detailed):
                return self._now()
            if self._broken:
                return self._now(self._broken)
            request = self._under_way or self._ask(DETAILED if detailed else PLAIN)
            try:
                async with asyncio.timeout_at(deadline):
                    problem = await asyncio.shield(request.answered)
            except TimeoutError:
                self.timeouts += 1
                return self._now(f"no reading within {self._budget:g} s")
            if request.gives(detailed):
                return self._now(problem)

    def want_tracking(self) -> None:
        """See ReadingSource."""
        now = time.monotonic()
        if now - self._wanted_at >= WANTED_SECONDS and not self._broken:
            self._wanted_at = now
            self._writer.write(WANTED)

    def doubt(self, kind: str, name: str) -> bool:
        """See ReadingSource."""
        now = time.monotonic()
        if now - self._doubted_at < DOUBT_SECONDS or self._broken:
            return False
        self._doubted_at = now
        self._writer.write(DOUBT + doubt_digest(kind, name))
        return True

    async def census(self, max_age: float) -> CensusNow:
        """See CensusSource."""
        deadline = asyncio.get_running_loop().time() + self._budget
        try:
            async with asyncio.timeout_at(deadline):
                while not self._broken and not self._census_is_known(max_age):
                    request = self._under_way or self._ask(TAKE_CENSUS)
                    await asyncio.shield(request.answered)
        except TimeoutError:
            return self._census_now(f"no answer within {self._budget:g} s")
        return self._census_now(self._broken)

    def _census_is_known(self, max_age: float) -> bool:
        """Whether the last census is here and young enough, or another one was just requested."""
        if self._figures is None or self._figures.census.number != self._census_number:
            return False
        if self._census is not None and time.time() - self._census.taken <= max_age:
            return True
        return time.monotonic() - self._requested_at < SHARED_SECONDS

    def _census_now(self, problem: str) -> CensusNow:
        figures = self._figures.census if self._figures else CensusFigures()
        return CensusNow(self._census, self._census_number, figures, problem)

    async def first(self) -> None:
        """Wait for the first answer, however long the collector takes to start."""
        await (self._under_way or self._ask(DETAILED)).answered

    def _ask(self, command: bytes) -> PendingRequest:
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._under_way = PendingRequest(command, time.monotonic(), answered)
        self._writer.write(command)
        return self._under_way

    async def _show_life(self) -> None:
        while not self._broken:
            self._writer.write(ALIVE)
            await asyncio.sleep(ALIVE_SECONDS)

    async def _receive(self) -> None:
        try:
            while True:
                header = Header.unpack(await self._reader.readexactly(HEADER_BYTES))
                answer = header.answer(
                    await self._reader.readexactly(header.figures_bytes + header.body_bytes)
                )
                if answer.kind == RETIRE:
                    self._broken = "this process is ending"
                    self._settle(self._broken)
                    self._on_retire()
                    return
                self._take(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self._broken = "the collector is gone"
        except ProtocolError as error:
            self._broken = f"protocol error from the collector: {error}"
        except Exception:
            log.exception("cannot process an answer of the collector")
            self._broken = "cannot process an answer of the collector"
        log.error("no more readings: %s", self._broken)
        self._settle(self._broken)
        self._writer.close()
        self.closed.set()

    def _take(self, answer: Answer) -> None:
        request = self._under_way
        if request is None or answer.kind != request.command:
            raise ProtocolError("unexpected answer")
        self._figures = answer.figures
        if answer.kind in (CENSUS, TAKE_CENSUS):
            self._take_census(answer)
        else:
            self._take_reading(answer, request)
        number = answer.figures.census.number if answer.figures else 0
        if number != self._census_number:
            self._ask(CENSUS)

    def _take_census(self, answer: Answer) -> None:
        if answer.kind == TAKE_CENSUS:
            self._requested_at = time.monotonic()
        else:
            try:
                self._census = decode_census(answer.body) if answer.body else None
            except SlabmonError as error:
                raise ProtocolError(str(error)) from error
            self._census_number = answer.figures.census.number if answer.figures else 0
        self._settle("")

    def _take_reading(self, answer: Answer, request: PendingRequest) -> None:
        if not answer.ok:
            self.failures += 1
            self._settle("the collector cannot read the kernel's tables")
            return
        try:
            snapshot = decode(answer.body)
        except BadSnapshot as error:
            raise ProtocolError(str(error)) from error
        snapshot = replace(snapshot, census=self._census)
        if answer.figures is not None and answer.figures.census.error:
            snapshot = snapshot.without_census(answer.figures.census.error)
        seconds = time.monotonic() - request.at
        self._count += 1
        self._last = Reading(
            self._count, boottime(), seconds, request.command == DETAILED, snapshot
        )
        self._settle("")

    def _settle(self, problem: str) -> None:
        if self._under_way is not None:
            self._under_way.answered.set_result(problem)
            self._under_way = None

    def close(self) -> None:
        """Stop listening to the collector."""
        for task in self._tasks:
            task.cancel()
        self._writer.close()
