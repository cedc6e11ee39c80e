# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a recording, as if it happened now: at any speed, from any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from slabmon.sources.playback import PlaybackClock

if TYPE_CHECKING:
    from slabmon.model import Snapshot
    from slabmon.store.recording import Recording, TimedSnapshot


class RecordingSource:
    """A SnapshotSource and a Past over a recording.

    It plays from Unix time `start` (default: its first snapshot) at `speed` recorded seconds per
    second and stops at the last snapshot. Inside the `with` block, `clock` controls playback and
    `recording` answers what does not depend on the current moment.
    """

    recording: Recording
    clock: PlaybackClock

    def __init__(
        self,
        path: Path,
        speed: float = 1.0,
        start: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._speed = speed
        self.start = start
        self._monotonic = monotonic
        self._open = ExitStack()

    def __enter__(self) -> RecordingSource:
        from slabmon.store.recording import Recording

        self.recording = self._open.enter_context(Recording(self._path))
        try:
            first, _ = self.span()
        except BaseException:
            self._open.close()
            raise
        start = first if self.start is None else self.start
        self.clock = PlaybackClock(self.span, start, self._speed, self._monotonic)
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def snapshot(self, details: bool = False) -> Snapshot:
        """See SnapshotSource. Details are there as far as they were recorded."""
        return self.at(self.clock.now).snapshot

    def span(self) -> tuple[float, float]:
        """See Past."""
        return self.recording.span()

    def at(self, time: float) -> TimedSnapshot:
        """See Past."""
        return self.recording.at(time)

    def steps(self, time: float) -> Iterator[TimedSnapshot | None]:
        """See SteppedPast."""
        return self.recording.steps(time)

    def times(self, start: float, end: float, most: int) -> list[float]:
        """See Past."""
        return self.recording.times(start, end, most)
