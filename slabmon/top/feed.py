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

from slabmon.analysis.window import WINDOW_SECONDS, History, Window
from slabmon.errors import SlabmonError
from slabmon.sources import Source
from slabmon.sources.replayed import ReplayedSource
from slabmon.views import VIEWS

CLOSE_SECONDS = 3.0
_STEP_SECONDS = 86400.0  # how far the next recorded snapshot is looked for


@dataclass(frozen=True)
class Reading:
    """What the last reading gave: the latest window, when it was read (monotonic clock), at which
    recorded moment (Unix time, None: now), and the error if the reading failed: a SlabmonError
    passes, any other was the last. `own_ratio` is
    the CPU time of this process per second since the reading before."""

    window: Window
    read_at: float
    moment: float | None
    error: BaseException | None
    own_ratio: float


class Feed:
    """Readings until close(). `tell` is called in the feed's thread after each."""

    def __init__(self, source: Source, delay: float, tell: Callable[[Reading], None]) -> None:
        self.delay = delay
        self._source = source
        self._replay = source if isinstance(source, ReplayedSource) else None
        self._tell = tell
        self._history = History(VIEWS.values())
        self._last: Reading | None = None
        self._own = 0.0
        self._failure: BaseException | None = None
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    @property
    def seekable(self) -> bool:
        """Whether the source can go back in time."""
        return self._replay is not None

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

    def jump(self, moment: float) -> None:
        """Goes on from this Unix time of a source that is seekable."""
        self._orders.put(lambda: self._seek(moment))

    def step(self, count: int) -> None:
        """Goes to the next recorded snapshot, or, with -1, the one before."""
        self._orders.put(lambda: self._step(count))

    def play(self, speed: float) -> None:
        """Lets a recording go on at this speed, 0 stops it."""
        if self._replay is not None:
            self._replay.play(speed)

    def _run(self) -> None:
        try:
            with self._source:
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
            try:
                if order is None:
                    due = max(due + self.delay, time.monotonic())
                else:
                    order()
                self._read()
            except SlabmonError as error:
                assert self._last is not None
                self._last = replace(self._last, error=error)
            assert self._last is not None
            self._tell(self._last)

    def _read(self) -> None:
        window = self._history.add(self._source.snapshot(details=True))
        now, own = time.monotonic(), time.process_time()
        ratio = 0.0
        if self._last is not None and now > self._last.read_at:
            ratio = (own - self._own) / (now - self._last.read_at)
        self._own = own
        moment = self._replay.now if self._replay is not None else None
        self._last = Reading(window, now, moment, None, ratio)

    def _seek(self, moment: float) -> None:
        """The history before that moment comes from the recording."""
        assert self._replay is not None
        self._replay.seek(moment)
        self._history = History(VIEWS.values())
        for found in self._replay.recording.between(moment - WINDOW_SECONDS, moment):
            self._history.add(found.snapshot)

    def _step(self, count: int) -> None:
        assert self._replay is not None
        now, recording = self._replay.now, self._replay.recording
        if count > 0:
            times = [t for t in recording.times(now, now + _STEP_SECONDS) if t > now][:1]
        else:
            # The snapshot shown is the last one at or before now: we want the one before it.
            times = recording.times(now - _STEP_SECONDS, now)[-2:-1]
        for moment in times:
            self._seek(moment)
