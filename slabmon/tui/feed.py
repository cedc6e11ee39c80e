# SPDX-License-Identifier: Apache-2.0
"""A thread that reads the source at an interval and turns snapshots into windows.

The source is opened, used and closed in this thread only: a recording belongs to the thread that
opened it, and a slow daemon blocks nobody else.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from slabmon.base.clock import boottime
from slabmon.base.errors import SlabmonError
from slabmon.leaks.finding import Assessment
from slabmon.leaks.observer import Observer
from slabmon.model import Snapshot
from slabmon.sources import SnapshotSource, request_census
from slabmon.sources.lookback import (
    PolledJudge,
    assessment,
    fill,
    fill_present,
    fill_recorded,
    past_of,
)
from slabmon.sources.playback import PlaybackClock
from slabmon.sources.recording import RecordingSource
from slabmon.views.catalogue import VIEWS
from slabmon.views.window import Window, WindowBuilder

CLOSE_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The result of the last reading.

    window: the latest window.
    read_at: when it was read (boottime()).
    moment: the Unix time that is shown, None for the present.
    error: why the reading failed. After a SlabmonError reading continues, any other is the last.
    own_ratio: CPU time of this process per second since the previous reading.
    refused: why a request (a jump) was refused, "" if it was not.
    """

    window: Window
    read_at: float
    moment: float | None
    error: BaseException | None = None
    own_ratio: float = 0.0
    refused: str = ""


class Feed:
    """Reads until close(). `notify` is called in the feed's thread after each reading."""

    def __init__(
        self, source: SnapshotSource, delay: float, notify: Callable[[Reading], None]
    ) -> None:
        self.delay = delay
        self._source = source
        self._past = past_of(source)
        # Runs for a recording from the start, for a daemon while its past is shown.
        self._clock: PlaybackClock | None = None
        self._notify = notify
        self._judge = PolledJudge(self._assessment) if self._past is not None else None
        self._judges_past = True
        self._history = self._new_history()
        self._last: Reading | None = None
        self._measured_at = self._cpu_seconds = 0.0
        self._failure: BaseException | None = None
        self._requests: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    @property
    def seekable(self) -> bool:
        """Whether the source can go back in time."""
        return self._past is not None

    def open(self) -> Reading:
        """Start, and wait for the first reading. Raises what the source raised."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        assert self._last is not None
        return self._last

    def close(self) -> None:
        """Close the source. Waits for a reading under way, but not longer than CLOSE_SECONDS:
        nothing that is attached outlives the process."""
        self._requests.put(None)
        self._thread.join(CLOSE_SECONDS)

    def read(self) -> None:
        """Read as soon as possible."""
        self._requests.put(lambda: None)

    def jump(self, moment: float | None) -> None:
        """Continue from this Unix time of a seekable source; None: from the present, or the end of
        a recording."""
        self._requests.put(lambda: self._seek(moment))

    def judge(self, wanted: bool, past: bool = True) -> None:
        """Set whether verdicts are shown; they are computed only while they are. `past`: those of a
        daemon's history too, which can take half a minute."""
        changed = self._judges_past != past and self._clock is not None
        self._judges_past = past
        if self._judge is not None and (self._judge.wanted != wanted or changed):
            self._judge.wanted = wanted
            self._judge.forget()
            self.read()

    def take_census(self) -> None:
        """Let the source take a census, if it can."""
        self._requests.put(lambda: request_census(self._source))

    def play(self, speed: float) -> None:
        """Let the past continue at this speed, 0 stops it."""
        if self._clock is not None:
            self._clock.play(speed)

    def _run(self) -> None:
        try:
            with self._source:
                if isinstance(self._source, RecordingSource):
                    self._clock = self._source.clock
                    if self._source.start is None:
                        fill_recorded(self._history, self._source)
                else:
                    self._restart_history(None)
                self._read()
                self._ready.set()
                self._loop()
        except BaseException as error:
            self._failure = error
            if self._last is not None:
                self._notify(replace(self._last, error=error))
            self._ready.set()

    def _loop(self) -> None:
        due = time.monotonic() + self.delay
        while True:
            request = None
            with contextlib.suppress(queue.Empty):
                request = self._requests.get(timeout=max(0.0, due - time.monotonic()))
                if request is None:
                    return
            assert self._last is not None
            refused = ""
            try:
                if request is None:
                    due = max(due + self.delay, time.monotonic())
                else:
                    request()
            except SlabmonError as error:
                refused = str(error)
            try:
                self._read()
            except SlabmonError as error:
                self._last = replace(self._last, error=error)
            self._notify(replace(self._last, refused=refused))

    def _read(self) -> None:
        window = self._history.add(self._snapshot())
        now, cpu_seconds = time.monotonic(), time.process_time()
        own_ratio = 0.0
        if self._last is not None and now > self._measured_at:
            own_ratio = (cpu_seconds - self._cpu_seconds) / (now - self._measured_at)
        self._measured_at, self._cpu_seconds = now, cpu_seconds
        moment = None if self._clock is None else self._clock.now
        self._last = Reading(window=window, read_at=boottime(), moment=moment, own_ratio=own_ratio)

    def _snapshot(self) -> Snapshot:
        if self._clock is None:
            return self._source.snapshot(details=True)
        assert self._past is not None
        return self._past.at(self._clock.now).snapshot

    def _assessment(self) -> Assessment | None:
        assert self._past is not None
        recorded = isinstance(self._source, RecordingSource)
        if self._clock is not None and not (recorded or self._judges_past):
            return None
        return assessment(self._past, None if self._clock is None else self._clock.now)

    def _seek(self, moment: float | None) -> None:
        assert self._past is not None
        recorded = isinstance(self._source, RecordingSource)
        if moment is None and not recorded:
            self._clock = None
            self._restart_history(None)
            return
        if self._clock is None:
            span = self._past.span()
            self._clock = PlaybackClock(lambda: span, span[1])
        self._clock.seek(float("inf") if moment is None else moment)
        self._restart_history(self._clock.now)

    def _restart_history(self, moment: float | None) -> None:
        """Start a new window with what the past has before this Unix time (None: the present)."""
        self._history = self._new_history()
        if self._judge is not None:
            self._judge.forget()
        if moment is None:
            fill_present(self._history, self._source)
        elif self._past is not None:
            with contextlib.suppress(SlabmonError):  # not every daemon keeps history
                fill(self._history, self._past, self._past.at(moment))

    def _new_history(self) -> WindowBuilder:
        return WindowBuilder(VIEWS.values(), self._judge or Observer())
