# SPDX-License-Identifier: Apache-2.0
"""A thread that reads the source at an interval and turns snapshots into windows.

The source is opened, used and closed in this thread alone: a recording belongs to the thread that
opened it, and a slow daemon holds nobody else up.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from slabmon.base.errors import SlabmonError
from slabmon.leaks.finding import Assessment
from slabmon.leaks.observer import Observer
from slabmon.model import Snapshot
from slabmon.sources import Past, SnapshotSource
from slabmon.sources.lookback import PolledJudge, assessment, fill, past_of
from slabmon.sources.recording import RecordingSource
from slabmon.views.catalogue import VIEWS
from slabmon.views.window import Window, WindowBuilder

CLOSE_SECONDS = 3.0


class _Clock:
    """Goes through the past: `now` is the Unix time it has come to."""

    def __init__(self, past: Past, moment: float) -> None:
        self.past = past
        self.speed = 1.0
        self._first, self._last = past.span()
        self.seek(moment)

    @property
    def now(self) -> float:
        passed = (time.monotonic() - self._since) * self.speed
        return min(max(self._from + passed, self._first), self._last)

    def seek(self, moment: float) -> None:
        self._from, self._since = moment, time.monotonic()

    def play(self, speed: float) -> None:
        self.seek(self.now)
        self.speed = speed


@dataclass(frozen=True)
class Reading:
    """What the last reading gave: the latest window, when it was read (monotonic clock), at which
    recorded moment (Unix time, None: now), and the error if the reading failed: a SlabmonError
    passes, any other was the last. `refused` says why what was asked for could not be done, ""
    where it was. `own_ratio` is
    the CPU time of this process per second since the reading before."""

    window: Window
    read_at: float
    moment: float | None
    error: BaseException | None
    own_ratio: float
    refused: str = ""


class Feed:
    """Readings until close(). `tell` is called in the feed's thread after each."""

    def __init__(
        self, source: SnapshotSource, delay: float, tell: Callable[[Reading], None]
    ) -> None:
        self.delay = delay
        self._source = source
        # What is recorded is gone through by a clock of our own; a daemon's past once it is asked
        # for, until the present is.
        self._past = past_of(source)
        self._clock: _Clock | None = None
        self._tell = tell
        self._judge = PolledJudge(self._assessment) if self._past is not None else None
        self._history = WindowBuilder(VIEWS.values(), self._judge or Observer())
        self._last: Reading | None = None
        self._own = 0.0
        self._failure: BaseException | None = None
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    @property
    def seekable(self) -> bool:
        """Whether the source can go back in time."""
        return self._past is not None

    def open(self) -> Reading:
        """Starts, and waits for the first reading. Raises what kept the source from opening."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        assert self._last is not None
        return self._last

    def close(self) -> None:
        """Closes the source. A reading under way is waited for, but not for long: nothing of ours
        outlives the process."""
        self._orders.put(None)
        self._thread.join(CLOSE_SECONDS)

    def read(self) -> None:
        """Reads as soon as possible."""
        self._orders.put(lambda: None)

    def jump(self, moment: float | None) -> None:
        """Goes on from this Unix time of a source that is seekable; None: the present, of a
        recording its end."""
        self._orders.put(lambda: self._seek(moment))

    def judge(self, wanted: bool) -> None:
        """Whether verdicts are looked at: they are asked for only then, soon if that is news."""
        if self._judge is not None and self._judge.wanted != wanted:
            self._judge.wanted = wanted
            self._judge.forget()
            self.read()

    def play(self, speed: float) -> None:
        """Lets the past go on at this speed, 0 stops it."""
        if self._clock is not None:
            self._clock.play(speed)

    def _run(self) -> None:
        try:
            with self._source:
                if isinstance(self._source, RecordingSource):
                    self._clock = _Clock(self._source, self._source.now)
                else:
                    self._begin(None)
                self._read()
                self._ready.set()
                self._follow()
        except BaseException as error:
            self._failure = error
            if self._last is not None:
                self._tell(replace(self._last, error=error))
            self._ready.set()

    def _follow(self) -> None:
        due = time.monotonic() + self.delay
        while True:
            order = None
            with contextlib.suppress(queue.Empty):
                order = self._orders.get(timeout=max(0.0, due - time.monotonic()))
                if order is None:
                    return
            assert self._last is not None
            refused = ""
            try:
                if order is None:
                    due = max(due + self.delay, time.monotonic())
                else:
                    order()
            except SlabmonError as error:
                refused = str(error)
            try:
                self._read()
            except SlabmonError as error:
                self._last = replace(self._last, error=error)
            self._tell(replace(self._last, refused=refused))

    def _read(self) -> None:
        window = self._history.add(self._snapshot())
        now, own = time.monotonic(), time.process_time()
        ratio = 0.0
        if self._last is not None and now > self._last.read_at:
            ratio = (own - self._own) / (now - self._last.read_at)
        self._own = own
        moment = None if self._clock is None else self._clock.now
        self._last = Reading(window, now, moment, None, ratio)

    def _snapshot(self) -> Snapshot:
        if self._clock is None:
            return self._source.snapshot(details=True)
        return self._clock.past.at(self._clock.now).snapshot

    def _assessment(self) -> Assessment | None:
        assert self._past is not None
        return assessment(self._past, None if self._clock is None else self._clock.now)

    def _seek(self, moment: float | None) -> None:
        """The history before the moment comes from the past as well."""
        assert self._past is not None
        if moment is None and not isinstance(self._source, RecordingSource):
            self._clock = None
            self._begin(None)
            return
        if self._clock is None:
            assert moment is not None
            self._clock = _Clock(self._past, moment)
        self._clock.seek(float("inf") if moment is None else moment)
        self._clock.seek(self._clock.now)
        self._begin(self._clock.now)

    def _begin(self, moment: float | None) -> None:
        """Begins anew, with what was before this Unix time (None: the present) as far as it is
        known."""
        self._history = WindowBuilder(VIEWS.values(), self._judge or Observer())
        if self._past is not None and self._judge is not None:
            self._judge.forget()
            with contextlib.suppress(SlabmonError):  # not every daemon keeps history
                end = self._source.snapshot().taken if moment is None else moment
                fill(self._history, self._past, end)
