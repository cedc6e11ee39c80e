# SPDX-License-Identifier: Apache-2.0
"""How much of the past is read: less of large hosts, whose snapshots take longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from slabmon.model import Snapshot


class ReadLimit(NamedTuple):
    """At most `most` snapshots; of large hosts fewer, so that they have about `rows` rows and
    tracked objects together, but at least `least`."""

    most: int
    rows: int
    least: int

    def points(self, snapshot: Snapshot) -> int:
        """How many snapshots of a host such as this."""
        rows = sum(map(len, (snapshot.caches, snapshot.sites, snapshot.devices)))
        rows += len(snapshot.tracked.bytes)
        return max(self.least, min(self.most, self.rows // max(1, rows)))


# What a window's growth is made from.
WINDOW = ReadLimit(20, 200_000, 3)
# What verdicts about the past are made from.
JUDGED = ReadLimit(240, 1_500_000, 24)
JUDGED_SECONDS = 3600.0
