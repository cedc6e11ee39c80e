# SPDX-License-Identifier: Apache-2.0
"""Snapshots of this host from a local session: BPF programs attached while the source is open."""

from __future__ import annotations

import select
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from slabmon.base.errors import SlabmonError
from slabmon.kernel import session

if TYPE_CHECKING:
    from slabmon.census.model import Census
    from slabmon.kernel.census.run import CensusProcess
    from slabmon.kernel.settings import Settings
    from slabmon.kernel.tracker import Tracker
    from slabmon.model import Snapshot


class LiveSource:
    """A SnapshotSource and a CensusTaker over a local tracking session.

    A census is taken by another process, and is part of the snapshots after it. Why there is none
    is the reason of the feature `census`. `instead_of` says why the local daemon is not the source,
    empty if there is none.
    """

    def __init__(self, settings: Settings, instead_of: str = "") -> None:
        self.instead_of = instead_of
        self._settings = settings
        self._open = ExitStack()
        self._tracker: Tracker | None = None
        self._process: CensusProcess | None = None
        self._census: Census | None = None
        self._problem = ""

    def __enter__(self) -> LiveSource:
        self._tracker = self._open.enter_context(session.open_tracker(self._settings))
        return self

    def __exit__(self, *exc: object) -> None:
        self._end_census()
        self._tracker = None
        self._open.close()

    def snapshot(self, details: bool = False) -> Snapshot:
        """See SnapshotSource."""
        assert self._tracker is not None, "snapshots are taken inside the with block"
        self._receive_census(0.0)
        snapshot = self._tracker.snapshot(details)
        if self._census is not None:
            snapshot = replace(snapshot, census=self._census)
        return snapshot.without_census(self._problem) if self._problem else snapshot

    def request_census(self) -> None:
        """See CensusTaker."""
        from slabmon.kernel.census.run import CensusProcess
        from slabmon.kernel.census.settings import CensusSettings

        if self._process is None:
            try:
                self._process = CensusProcess(CensusSettings())
            except OSError as error:
                self._problem = f"census: cannot start a process: {error.strerror}"

    def wait_for_census(self) -> None:
        """Wait for the census that was requested."""
        self._receive_census(None)

    def _receive_census(self, seconds: float | None) -> None:
        """Take what the process sends until it pauses for so long; None: until it has ended."""
        from slabmon.census.codec import decode

        process = self._process
        try:
            while process is not None and select.select([process.channel], [], [], seconds)[0]:
                if process.receive():
                    self._census, self._problem = decode(process.result()), ""
                    self._end_census()
                    return
        except SlabmonError as error:
            self._problem = str(error)
            self._end_census()

    def _end_census(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None
