# SPDX-License-Identifier: Apache-2.0
"""Writes recordings: appends snapshots and deletes old ones."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from slabmon.base.errors import PermissionDenied, UsageError
from slabmon.base.escape import escape
from slabmon.base.parse import duration, size
from slabmon.model import Snapshot
from slabmon.store import codec
from slabmon.store.compression import pack
from slabmon.store.recording import (
    APPLICATION_ID,
    LONGEST_CHAIN,
    SCHEMA,
    VERSION,
    ForeignFile,
    Recording,
    milliseconds,
)

# With small pages little space stays empty, and each append writes only twice what it adds
# (docs/history.md).
_PAGE_BYTES = 1024
# A group has at least CHAIN snapshots. It ends when the deltas take CHAIN_RATIO times the space of
# the whole snapshot: whole snapshots are then a small part of the file, and any other is reached in
# few steps.
CHAIN = 60
CHAIN_RATIO = 8
MIN_BYTES = 1 << 20
_LOG_PAGES = 4096  # the write-ahead log stays at about 4 MiB


@dataclass(frozen=True)
class Retention:
    """Limits of a recording: snapshots older than `seconds` are deleted, and the oldest while the
    file exceeds `bytes` (None: no limit). Snapshots that build on one another are deleted together;
    the latest of these groups is kept."""

    seconds: float | None = None
    bytes: int | None = None

    @classmethod
    def parse(cls, keep: str | None, max_size: str | None) -> Retention:
        """Parse a duration such as `7d` and a size such as `500M`. Raises UsageError if they are
        invalid or the size is too small."""
        limit = None if max_size is None else size(max_size)
        if limit is not None and limit < MIN_BYTES:
            raise UsageError(f"max size: expected at least {MIN_BYTES >> 20}M, got {max_size}")
        return cls(None if keep is None else duration(keep), limit)


class _Continued(Recording):
    """A file as a writer finds it: a recording, or one with nothing in it."""

    def _check(self) -> None:
        self._blank = self._is_blank()
        if not self._blank:
            super()._check()

    def look_for_damage(self) -> None:
        """Raise UsageError if pages of the file are damaged, or its first or last snapshot."""
        with self._errors():
            (found,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
        if found != b"ok":
            raise UsageError(f"recording {self.path} is damaged: {escape(found.splitlines()[-1])}")
        for order in () if self._blank else ("ASC", "DESC"):
            with self._transaction():
                row = self._database.execute(
                    f"SELECT id, time FROM snapshots ORDER BY id {order} LIMIT 1"
                ).fetchone()
                if row is not None:
                    self._snapshot(*row)


def check_continued(path: Path, damage: bool = False) -> None:
    """Raise ForeignFile if a file is at the path that is no recording to continue. Raise UsageError
    if it is found to be damaged: `damage` says to look for that. The snapshots between the first
    and the last are not read."""
    if not path.exists():
        return
    if not path.is_file():
        raise ForeignFile(f"{path} is not a regular file")
    with _Continued(path) as found:
        if damage:
            found.look_for_damage()


class RecordingWriter(Recording):
    """A recording opened for writing, created if missing; by one process at a time.

    Each append is one transaction: however the process ends, at most the snapshot being written is
    lost. When append() returns the snapshot is on disk, unless `durable` is false: then append()
    does not wait for the disk, and a power failure can cost the last minutes.
    """

    def __init__(
        self, path: Path, retention: Retention = Retention(), durable: bool = True
    ) -> None:
        self._retention = retention
        self._durable = durable
        self._previous = b""
        self._key = self._number = self._whole_bytes = self._built_bytes = 0
        super().__init__(path)

    def _open(self) -> sqlite3.Connection:
        try:
            # Closed after the database: closing any descriptor of a file drops SQLite's locks.
            self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError as error:
            raise PermissionDenied(f"cannot write {self.path}: {error.strerror}") from error
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return self._connect("mode=rw")
        except BlockingIOError as error:
            os.close(self._lock)
            raise UsageError(
                f"another process records to {self.path}; choose another file"
            ) from error
        except BaseException:
            os.close(self._lock)
            raise

    def replaced(self) -> bool:
        """Return whether the path is no longer that of the open file: it was deleted, renamed, or
        its file system is gone. What is appended then is lost."""
        try:
            at_path = os.stat(self.path)
        except OSError:
            return True
        file = os.fstat(self._lock)
        return (at_path.st_dev, at_path.st_ino) != (file.st_dev, file.st_ino)

    def _check(self) -> None:
        """Turn an empty file into a recording, check it, and prepare it for writing."""
        if not os.fstat(self._lock).st_size or self._is_blank():
            self._create()
        super()._check()
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
        self._database.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        (self._number,) = self._database.execute(
            "SELECT coalesce(max(id), 0) FROM snapshots"
        ).fetchone()
        with self._transaction("IMMEDIATE"):
            self._forget(time.time())
        # Not execute(), which would free a single page: the statement frees one a step.
        self._database.executescript("PRAGMA incremental_vacuum")

    def _create(self) -> None:
        self._database.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        self._database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        with self._transaction("IMMEDIATE"):
            for statement in SCHEMA:
                self._database.execute(statement)
            self._database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._database.execute(f"PRAGMA user_version = {VERSION}")

    def append(self, snapshot: Snapshot, at: float | None = None) -> None:
        """Write a snapshot taken at Unix time `at` (None: now), and delete old ones."""
        now = time.time() if at is None else at
        raw = codec.encode(snapshot)
        number = self._number + 1
        if self._group_ends(number):
            self._key, self._previous, self._built_bytes = number, b"", 0
        data = pack(raw, self._previous)
        self._previous = b""  # if this fails, the next snapshot is a whole one
        with self._transaction("IMMEDIATE"):
            self._database.execute(
                "INSERT INTO snapshots VALUES (?, ?, ?, ?)",
                (number, milliseconds(now), self._key, data),
            )
            self._forget(now)
        self._number, self._previous = number, raw
        if number == self._key:
            self._whole_bytes = len(data)
        else:
            self._built_bytes += len(data)

    def _group_ends(self, number: int) -> bool:
        """Whether the snapshot of this number must be a whole one."""
        return (
            not self._previous
            or number - self._key >= LONGEST_CHAIN
            or (
                number - self._key >= CHAIN and self._built_bytes >= CHAIN_RATIO * self._whole_bytes
            )
        )

    def _forget(self, now: float) -> None:
        if self._retention.seconds is not None:
            oldest = milliseconds(now - self._retention.seconds)
            self._database.execute(
                "DELETE FROM snapshots WHERE id < (SELECT key FROM snapshots NOT INDEXED "
                "WHERE time >= ? OR id = (SELECT max(id) FROM snapshots) ORDER BY id LIMIT 1)",
                (oldest,),
            )
        while self._retention.bytes is not None and self._used_bytes() > self._retention.bytes:
            group = self._database.execute(
                "SELECT id FROM snapshots WHERE id = key AND id > (SELECT min(id) FROM snapshots) "
                "ORDER BY id LIMIT 1"
            ).fetchone()
            if group is None:
                return
            self._database.execute("DELETE FROM snapshots WHERE id < ?", group)

    def _used_bytes(self) -> int:
        pages, free, size = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def close(self) -> None:
        """Close the recording, leaving a single file."""
        with contextlib.suppress(sqlite3.Error):  # while others read it, it keeps its log
            self._database.execute("PRAGMA journal_mode = DELETE")
        super().close()

    def _release(self) -> None:
        super()._release()
        os.close(self._lock)
