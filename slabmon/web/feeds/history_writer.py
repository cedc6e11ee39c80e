# SPDX-License-Identifier: Apache-2.0
"""The daemon's history: a recording that the web process keeps and answers from."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.store.settings import HistorySettings
from slabmon.web.feeds.readings import Source

if TYPE_CHECKING:
    from slabmon.store.recording import Moment
    from slabmon.store.writer import History

log = logging.getLogger(__name__)
T = TypeVar("T")


class NoHistory(SlabmonError):
    """There is no history to answer from."""


def prepare(settings: HistorySettings, user: pwd.struct_passwd) -> None:
    """While still privileged: imports what writes it, and makes the directory, for this user, if
    it is missing."""
    if settings.path:
        import slabmon.store.writer  # noqa: F401
    folder = Path(settings.path).parent
    if settings.path and not folder.exists():
        try:
            folder.mkdir(mode=0o750)
            os.chown(folder, user.pw_uid, user.pw_gid)  # not as a service: it has no CAP_CHOWN
        except OSError as error:
            with contextlib.suppress(OSError):
                folder.rmdir()
            raise UsageError(
                f"history.path: cannot make {folder} for {user.pw_name}: {error.strerror}; make it "
                f"with: install -d -m 750 -o {user.pw_name} {folder}"
            ) from error


def check(settings: HistorySettings) -> None:
    """When unprivileged: UsageError if there can be no history."""
    folder = Path(settings.path).parent
    if settings.path and not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"history.path: the web process cannot write to {folder}; give that directory to its "
            "user, see web.user"
        )


class Keeper:
    """Appends a detailed reading now and then.

    The file is opened when it is first needed, and again after a failure: a web process that is
    being replaced may still have it. What fails is logged when it begins and when it is over.
    """

    def __init__(self, settings: HistorySettings, readings: Source) -> None:
        self._settings = settings
        self._readings = readings
        self._history: History | None = None
        self._failed = 0

    async def run(self) -> None:
        """Until cancelled; returns at once if no history is to be kept."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while self._settings.path:
            now = await self._readings.now(detailed=True)
            if now.reading is not None and not now.problem:
                snapshot = now.reading.snapshot
                self._try(lambda history: history.append(snapshot))  # noqa: B023
            due = max(due + self._settings.interval_seconds, clock())
            await asyncio.sleep(due - clock())

    def _try(self, work: Callable[[History], None]) -> None:
        try:
            work(self._opened())
        except Exception as error:  # whatever it is, requests go on being answered
            self._failed += 1
            if self._failed == 2:
                log.warning("no history is recorded: %s", error)
            self.close()
        else:
            if self._failed > 1:
                log.info("history is recorded again")
            self._failed = 0

    def _opened(self) -> History:
        if self._history is None:
            from slabmon.store.writer import History, Retention

            retention = Retention.parse(self._settings.keep, self._settings.max_size)
            self._history = History(Path(self._settings.path), retention, durable=False)
        return self._history

    def _ask(self, question: Callable[[History], T]) -> T:
        if self._history is None:
            kept = bool(self._settings.path)
            raise NoHistory(
                "the history is not open yet"
                if kept
                else "no history is kept here; see history.path in the configuration"
            )
        return question(self._history)

    def at(self, time: float) -> Moment:
        """See sources.Past; NoHistory if there is none."""
        return self._ask(lambda history: history.at(time))

    def times(self, start: float, end: float, most: int) -> list[float]:
        """See sources.Past; NoHistory if there is none."""
        return self._ask(lambda history: history.times(start, end, most))

    def span(self) -> tuple[float, float]:
        """See sources.Past; NoHistory if there is none."""
        return self._ask(lambda history: history.span())

    def close(self) -> None:
        """Closes the file."""
        if self._history is not None:
            self._history.close()
            self._history = None
