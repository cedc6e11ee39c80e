# SPDX-License-Identifier: Apache-2.0
"""Snapshots of this host from a local session: BPF programs attached while the source is open."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from slabmon.kernel import session

if TYPE_CHECKING:
    from slabmon.kernel.settings import Settings
    from slabmon.kernel.tracker import Tracker
    from slabmon.model import Snapshot


class LiveSource:
    """A SnapshotSource over a local tracking session."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = ExitStack()
        self._tracker: Tracker | None = None

    def __enter__(self) -> LiveSource:
        self._tracker = self._open.enter_context(session.open_tracker(self._settings))
        return self

    def __exit__(self, *exc: object) -> None:
        self._tracker = None
        self._open.close()

    def snapshot(self, details: bool = False) -> Snapshot:
        """See SnapshotSource."""
        assert self._tracker is not None, "snapshots are taken inside the with block"
        return self._tracker.snapshot(details)
