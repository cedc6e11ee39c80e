# SPDX-License-Identifier: Apache-2.0
"""Where snapshots come from: a local session, a running daemon, a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slabmon.model import Snapshot
    from slabmon.store.recording import TimedSnapshot


# Header of a daemon's answer about the past: the Unix time at which the snapshot was taken.
TIME_HEADER = "Slabmon-Time"
# Status of the answer about a snapshot of the past that is damaged.
DAMAGED_STATUS = 410
MAX_TIMES = 1000  # of a daemon's history in one answer


class SnapshotSource(Protocol):
    """Used in a `with` block. Every failure is a SlabmonError."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def snapshot(self, details: bool = False) -> Snapshot:
        """Return the host as it is now, or as it was at the recording's current moment.

        `details` requests kernel stacks and cgroup paths of tracked objects, where they cost extra.
        """
        ...


class CensusTaker(Protocol):
    """Implemented as well by sources that can take a census: a local session, a daemon."""

    def request_census(self) -> None:
        """Let a census be taken, unless one is under way. It is not waited for: the snapshots after
        it have it."""
        ...


def request_census(source: SnapshotSource) -> None:
    """Let a source take a census, if it can."""
    if hasattr(source, "request_census"):
        cast(CensusTaker, source).request_census()


class Past(Protocol):
    """Implemented as well by sources that know the past: a recording, a daemon with history."""

    def span(self) -> tuple[float, float]:
        """Return the Unix times of the first and the last snapshot."""
        ...

    def at(self, time: float) -> TimedSnapshot:
        """Return the last snapshot not after this Unix time (else the first), and its time. Raises
        DamagedSnapshot if only this one cannot be read."""
        ...

    def times(self, start: float, end: float, most: int) -> list[float]:
        """Return the Unix times of snapshots from `start` to `end`, both included, ascending.

        If there are more than `most`, that number of them in about equal steps, the first and the
        last included.
        """
        ...


class SteppedPast(Past, Protocol):
    """A past that a server can read while it answers others."""

    def steps(self, time: float) -> Iterator[TimedSnapshot | None]:
        """Do what at() does in short steps: yield None after each, and the snapshot at last."""
        ...
