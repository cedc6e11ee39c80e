# SPDX-License-Identifier: Apache-2.0
"""Snapshots of this host through programs of our own, attached while the source is open."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from slabmon.kernel import session

if TYPE_CHECKING:
    from slabmon.kernel.settings import Settings
    from slabmon.kernel.tracker import Tracker
    from slabmon.model import Snapshot


class LiveSource:
    """A SnapshotSource over a tracking session of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = ExitStack()
        self._tracker: Tracker | None = None

    def __enter__(self) -> LiveSource:
        self._tracker = self._open.enter_context(session.open_tracker(self._settings))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tracker = None
        self._open.close()

    def snapshot(self, details: bool = False) -> Snapshot:
        """See SnapshotSource."""
        assert self._tracker is not None, "snapshots are taken inside the with block"
        return self._tracker.snapshot(details)
