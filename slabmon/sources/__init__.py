# SPDX-License-Identifier: Apache-2.0
"""Where snapshots come from: programs of our own, a running daemon, a recording."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from slabmon.model import Snapshot
    from slabmon.store.recording import Moment


# When the snapshot of a daemon's answer about the past was taken: a header with Unix time.
TIME_HEADER = "Slabmon-Time"
MAX_TIMES = 1000  # of a daemon's history that can be asked for at once


class SnapshotSource(Protocol):
    """Used in a `with` block; every failure is a SlabmonError."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def snapshot(self, details: bool = False) -> Snapshot:
        """The host as it is now, or as it was at the recording's current moment. `details` asks
        for kernel stacks and cgroup paths of tracked objects, where they cost extra."""
        ...


class Past(Protocol):
    """What a source that knows the past offers as well: a recording, a daemon with history."""

    def span(self) -> tuple[float, float]:
        """Unix times of the first and the last snapshot."""
        ...

    def at(self, time: float) -> Moment:
        """The last snapshot not after this Unix time, else the first, and when it was taken."""
        ...

    def times(self, start: float, end: float, most: int) -> list[float]:
        """Unix times of snapshots from `start` to `end`, both included, ascending: all, or `most`
        of them in about equal steps, the first and the last included."""
        ...
