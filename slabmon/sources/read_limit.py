# SPDX-License-Identifier: Apache-2.0
"""Limits how many past snapshots are read, scaled down for hosts with large snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from slabmon.model import Snapshot


class ReadLimit(NamedTuple):
    """At most `most` snapshots, and no more than have about `rows` rows, tracked objects and
    owners of a census together; but always `least`."""

    most: int
    rows: int
    least: int

    def points(self, snapshot: Snapshot) -> int:
        """Return how many snapshots of the size of this one to read."""
        rows = sum(map(len, (snapshot.caches, snapshot.sites, snapshot.devices)))
        rows += len(snapshot.tracked.bytes)
        rows += len(snapshot.census.owners) if snapshot.census else 0
        return max(self.least, min(self.most, self.rows // max(1, rows)))


# For the growth over a window.
WINDOW = ReadLimit(most=20, rows=200_000, least=3)
# For verdicts about a moment of the past.
JUDGED = ReadLimit(most=240, rows=1_500_000, least=24)
JUDGED_SECONDS = 3600.0
