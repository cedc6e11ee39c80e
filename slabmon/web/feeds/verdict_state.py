# SPDX-License-Identifier: Apache-2.0
"""Keeps what verdicts have watched for the next web process."""

from __future__ import annotations

import logging
import time

from slabmon.leaks import checkpoint
from slabmon.leaks.observer import Observer
from slabmon.state.checkpoint_file import CheckpointFile

log = logging.getLogger(__name__)

# As long as the shortest scale's step: what is lost of it is no pause.
SAVE_SECONDS = 15.0


class VerdictState:
    """The state of one observer, in a file. The beginning and the end of a failure are logged."""

    def __init__(self, file: CheckpointFile, observer: Observer) -> None:
        self._file = file
        self._observer = observer
        self._saved_at = time.monotonic()
        self._failing = False

    def restore(self) -> None:
        """Have the observer go on where that of an earlier process was."""
        try:
            data = self._file.read()
            if data is not None:
                checkpoint.restore(self._observer, data)
        except (OSError, checkpoint.BadCheckpoint) as error:
            log.warning("verdicts begin again: what was watched before is not used: %s", error)

    def save(self) -> None:
        """Save the state, if it has not been for SAVE_SECONDS."""
        now = time.monotonic()
        if now - self._saved_at < SAVE_SECONDS:
            return
        self._saved_at = now
        try:
            self._file.write(checkpoint.pack(self._observer))
        except OSError as error:
            if not self._failing:
                log.warning(
                    "verdicts will begin again with the next web process: what is watched cannot "
                    "be saved: %s",
                    error.strerror,
                )
            self._failing = True
        else:
            if self._failing:
                log.info("what verdicts watch is saved again")
            self._failing = False
