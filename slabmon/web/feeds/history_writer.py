# SPDX-License-Identifier: Apache-2.0
"""The daemon's history: a recording that the web process writes and answers from."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import pwd
from collections.abc import Callable, Iterator
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.store.settings import HistorySettings
from slabmon.web.feeds.readings import ReadingSource

if TYPE_CHECKING:
    from slabmon.store.recording import Recording, TimedSnapshot
    from slabmon.store.writer import RecordingWriter

log = logging.getLogger(__name__)
T = TypeVar("T")

_READ_ONLY = "name a path elsewhere, or for the service permit this one with ReadWritePaths="


class NoHistory(SlabmonError):
    """Raised when no history is kept."""


def prepare(settings: HistorySettings, user: pwd.struct_passwd) -> None:
    """Import what writes the history, and create its directory for `user` if it is missing. Call
    this while still privileged. Raises UsageError."""
    if settings.path:
        import slabmon.store.writer  # noqa: F401  # its files may not be readable later
    folder = Path(settings.path).parent
    if settings.path and not folder.exists():
        try:
            folder.mkdir(mode=0o750)
            os.chown(folder, user.pw_uid, user.pw_gid)  # as a service we lack CAP_CHOWN
        except OSError as error:
            with contextlib.suppress(OSError):
                folder.rmdir()
            advice = f"make it with: install -d -m 750 -o {user.pw_name} {folder}"
            raise UsageError(
                f"history.path: cannot make {folder} for {user.pw_name}: {error.strerror}; "
                + (_READ_ONLY if error.errno == errno.EROFS else advice)
            ) from error


def check(settings: HistorySettings) -> None:
    """Raise UsageError unless this process, now unprivileged, can write the history."""
    if not settings.path:
        return
    from slabmon.store.recording import ForeignFile
    from slabmon.store.writer import check_continued

    path = Path(settings.path)
    _check_access(path.parent, os.W_OK | os.X_OK)
    if path.exists():
        _check_access(path, os.R_OK | os.W_OK)
    try:
        check_continued(path)
    except ForeignFile as error:
        raise UsageError(
            f"history.path: {error}; name another file, or move this one away"
        ) from error
    except SlabmonError:
        pass  # damaged, or on a disk that fails: see HistoryWriter


def _check_access(path: Path, mode: int) -> None:
    if os.access(path, mode):
        return
    with contextlib.suppress(OSError):
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            raise UsageError(f"history.path: {path} is on a read-only file system; {_READ_ONLY}")
    raise UsageError(
        f"history.path: the web process cannot write to {path}; make web.user its owner"
    )


class HistoryWriter:
    """Appends a detailed reading to the history at a fixed interval, and answers from it
    (sources.SteppedPast).

    The file is opened when it is first needed: a web process that is being replaced may still hold
    its lock. While it cannot be written, because the disk is full, read-only or gone, it stays open
    and answers what it can, and writing is tried again with each reading. The beginning and the end
    of a failure are logged.
    """

    def __init__(self, settings: HistorySettings, readings: ReadingSource) -> None:
        self._settings = settings
        self._readings = readings
        self._history: RecordingWriter | None = None
        self._readable: Recording | None = None  # the same file while it cannot be opened to write
        self._failed = 0
        self._problem = ""  # why the last attempt failed

    async def run(self) -> None:
        """Write until cancelled; return at once if no history is configured."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while self._settings.path:
            now = await self._readings.now(detailed=True)
            if now.reading is not None and not now.problem:
                self._try(methodcaller("append", now.reading.snapshot))
            due = max(due + self._settings.interval_seconds, clock())
            await asyncio.sleep(due - clock())

    @property
    def recording(self) -> bool | None:
        """Whether the last snapshot was recorded; None if there is no history, or no snapshot to
        record yet."""
        if not self._settings.path or not (self._problem or self._history):
            return None
        return not self._problem

    def _try(self, work: Callable[[RecordingWriter], None]) -> None:
        try:
            work(self._opened())
        except Exception as error:  # requests must be answered whatever happens
            self._failed += 1
            self._problem = str(error)
            if self._failed == 2:
                log.warning("cannot record history, retrying: %s", error)
        else:
            if self._failed > 1:
                log.info("recording history again")
            self._failed = 0
            self._problem = ""

    def _opened(self) -> RecordingWriter:
        path = Path(self._settings.path)
        if self._history is not None and self._history.replaced():
            if not os.access(path.parent, os.W_OK | os.X_OK):
                raise UsageError(f"{path} is gone, and {path.parent} is missing or not writable")
            log.warning("%s was moved or deleted: starting another", path)
            self.close()
        if self._history is None:
            self._history = self._open(path)
        return self._history

    def _open(self, path: Path) -> RecordingWriter:
        from slabmon.store.recording import Recording
        from slabmon.store.writer import RecordingWriter, Retention

        # First: a writer that fails closes a descriptor, which drops SQLite's locks of the file.
        self.close()
        try:
            retention = Retention.parse(self._settings.keep, self._settings.max_size)
            return RecordingWriter(path, retention, durable=False)
        except SlabmonError:
            with contextlib.suppress(SlabmonError):
                self._readable = Recording(path)
            raise

    def _ask(self, question: Callable[[Recording], T]) -> T:
        history = self._history or self._readable
        if history is not None:
            return question(history)
        if self._problem:
            raise NoHistory(f"the history cannot be written: {self._problem}")
        if self._settings.path:
            raise NoHistory("the history is not open yet; try again in a moment")
        raise NoHistory("this daemon keeps no history; set history.path in its configuration")

    def at(self, time: float) -> TimedSnapshot:
        """See sources.Past. Raises NoHistory."""
        return self._ask(lambda history: history.at(time))

    def steps(self, time: float) -> Iterator[TimedSnapshot | None]:
        """See sources.SteppedPast. Raises NoHistory."""
        return self._ask(lambda history: history.steps(time))

    def times(self, start: float, end: float, most: int) -> list[float]:
        """See sources.Past. Raises NoHistory."""
        return self._ask(lambda history: history.times(start, end, most))

    def span(self) -> tuple[float, float]:
        """See sources.Past. Raises NoHistory."""
        return self._ask(lambda history: history.span())

    def close(self) -> None:
        """Close the file."""
        history, self._history = self._history, None
        readable, self._readable = self._readable, None
        for recording in (history, readable):
            if recording is not None:
                recording.close()
