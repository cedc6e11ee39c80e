# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a recording, as if it happened now: at any speed, from any moment on."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slabmon.model import Snapshot
    from slabmon.store.recording import Moment, Recording


class RecordingSource:
    """A SnapshotSource over a recording.

    It plays from its first moment (or Unix time `start`) at `speed` recorded seconds per second
    and stops at the last; speed 0 is a pause, and seek() and play() may be called at any time.
    `recording` answers everything that is not about the current moment. Inside the with block.
    """

    recording: Recording

    def __init__(
        self,
        path: Path,
        speed: float = 1.0,
        start: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._speed = speed
        self._start = start
        self._clock = clock
        self._open = ExitStack()

    def __enter__(self) -> RecordingSource:
        from slabmon.store.recording import Recording

        self.recording = self._open.enter_context(Recording(self._path))
        try:
            first, _ = self.span()
        except BaseException:
            self._open.close()
            raise
        self.seek(first if self._start is None else self._start)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    @property
    def speed(self) -> float:
        """Recorded seconds per second."""
        return self._speed

    @property
    def now(self) -> float:
        """Unix time that the replay has come to; never past the last snapshot."""
        first, last = self.span()
        passed = (self._clock() - self._since) * self._speed
        return min(max(self._from + passed, first), last)

    def seek(self, moment: float) -> None:
        """Goes on from this Unix time."""
        self._from, self._since = moment, self._clock()

    def play(self, speed: float) -> None:
        """Goes on at this speed; negative goes back."""
        self.seek(self.now)
        self._speed = speed

    def snapshot(self, details: bool = False) -> Snapshot:
        """See SnapshotSource. Details are what was recorded of them."""
        return self.at(self.now).snapshot

    def span(self) -> tuple[float, float]:
        """See Past."""
        return self.recording.span()

    def at(self, time: float) -> Moment:
        """See Past."""
        return self.recording.at(time)

    def times(self, start: float, end: float, most: int) -> list[float]:
        """See Past."""
        return self.recording.times(start, end, most)
