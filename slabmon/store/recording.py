# SPDX-License-Identifier: Apache-2.0
"""Reads recordings: SQLite files of compressed snapshots, in the format of docs/history.md.

A recording may come from anywhere: it is opened read-only, its schema must match exactly, and every
error of SQLite or of a snapshot becomes one UsageError.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from slabmon.base.errors import DamagedSnapshot, PermissionDenied, UsageError
from slabmon.base.escape import escape
from slabmon.model import Snapshot
from slabmon.store import codec
from slabmon.store.compression import unpack

APPLICATION_ID = 0x736C6162  # "slab"
VERSION = 1
SCHEMA = (
    """CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    key INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT""",
    "CREATE INDEX snapshots_time ON snapshots (time)",
)
# The most snapshots that build on one another.
LONGEST_CHAIN = 360
_ALWAYS = 2.0**62


class ForeignFile(UsageError):
    """A file is no recording, or none that this version reads."""


class TimedSnapshot(NamedTuple):
    """A snapshot and the Unix time at which it was taken."""

    time: float
    snapshot: Snapshot


def milliseconds(time: float) -> int:
    """Return a Unix time in milliseconds, limited to the range that recordings can hold."""
    return round(max(-_ALWAYS, min(_ALWAYS, time * 1000)))


class Recording:
    """A recording opened for reading. Not thread-safe; another process may write the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = self._open()
        self._last: tuple[int, int, bytes] = 0, 0, b""  # key, id and bytes of the last one read
        try:
            with self._errors():
                self._check()
        except BaseException:
            self._release()
            raise

    def _open(self) -> sqlite3.Connection:
        if not self.path.is_file():
            raise UsageError(f"no recording {self.path}; check the path")
        if not os.access(self.path, os.R_OK):
            raise PermissionDenied(f"cannot read the recording {self.path}: permission denied")
        wal = self.path.with_name(self.path.name + "-wal")
        # On read-only media SQLite cannot create the files that a live recording needs.
        immutable = not wal.exists() and not os.access(self.path.absolute().parent, os.W_OK)
        return self._connect(f"mode=ro&immutable={int(immutable)}")

    def _connect(self, mode: str) -> sqlite3.Connection:
        with self._errors():
            database = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?{mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
        database.text_factory = bytes  # damaged text need not be UTF-8
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, codec.MAX_BYTES)
        return database

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError, TypeError, UnicodeError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
                raise ForeignFile(f"{self.path} is not a slabmon recording") from error
            raise UsageError(f"recording {self.path}: {_reason(error)}") from error

    @contextmanager
    def _transaction(self, kind: str = "DEFERRED") -> Iterator[None]:
        with self._errors():
            self._database.execute(f"BEGIN {kind}")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _check(self) -> None:
        """Raise UsageError unless this is a recording that this version can read."""
        self._database.execute("PRAGMA trusted_schema = OFF")
        self._database.execute("PRAGMA cell_size_check = ON")
        (application,) = self._database.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise ForeignFile(f"{self.path} is not a slabmon recording")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            raise ForeignFile(
                f"{self.path} has file format {version}; this version of slabmon reads format "
                f"{VERSION}"
            )
        schema = self._database.execute("SELECT sql FROM sqlite_schema").fetchall()
        if sorted(schema) != sorted((sql.encode(),) for sql in SCHEMA):
            raise ForeignFile(f"recording {self.path}: its tables are not those of a recording")

    def _is_blank(self) -> bool:
        """Whether the file is an empty database, as a writer killed while creating it leaves."""
        (count,) = self._database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (application,) = self._database.execute("PRAGMA application_id").fetchone()
        return (count, application) == (0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._release()

    def _release(self) -> None:
        self._database.close()

    def span(self) -> tuple[float, float]:
        """Return the Unix times of the first and the last snapshot. Raises UsageError if the
        recording is empty."""
        with self._errors():
            first, last = self._database.execute(
                "SELECT (SELECT min(time) FROM snapshots), (SELECT max(time) FROM snapshots)"
            ).fetchone()
        if first is None:
            raise UsageError(f"recording {self.path} is empty")
        return first / 1000, last / 1000

    def times(
        self, start: float = -math.inf, end: float = math.inf, most: int | None = None
    ) -> list[float]:
        """Return the Unix times of snapshots from `start` to `end`, both included, ascending: all,
        or `most` (at least 2) of them evenly spread, with the first and the last."""
        times = [time / 1000 for _, time in self._rows(start, end)]
        if most is None or len(times) <= most:
            return times
        return [times[i * (len(times) - 1) // (most - 1)] for i in range(most)]

    def _rows(self, start: float, end: float) -> list[tuple[int, int]]:
        with self._errors():
            return self._database.execute(
                "SELECT id, time FROM snapshots WHERE time BETWEEN ? AND ? ORDER BY time, id",
                (milliseconds(start), milliseconds(end)),
            ).fetchall()

    def at(self, time: float) -> TimedSnapshot:
        """Return the last snapshot not after `time`, or the first if all are later. Raises
        UsageError if the recording is empty or the snapshot damaged."""
        with self._transaction():
            return self._snapshot(*self._nearest(time))

    def steps(self, time: float) -> Iterator[TimedSnapshot | None]:
        """Read what at() returns in steps, each as long as unpacking one snapshot of a large host:
        yield None after each, and the snapshot at last.

        Between steps the recording may be read and written, but not closed. Raises UsageError as
        at() does, and if retention deletes the snapshot meanwhile.
        """
        with self._transaction():
            number, taken = self._nearest(time)
        with self._damage(number):
            encoded = b""
            for raw in self._chain(number):
                encoded = raw
                yield None
            snapshot = codec.decode(encoded)
        yield TimedSnapshot(taken / 1000, snapshot)

    def _nearest(self, time: float) -> tuple[int, int]:
        """Return the id and the time in milliseconds of the snapshot that at() returns."""
        for comparison, order in (("<=", "DESC"), (">", "ASC")):
            row = self._database.execute(
                f"SELECT id, time FROM snapshots WHERE time {comparison} ? "
                f"ORDER BY time {order}, id {order} LIMIT 1",
                (milliseconds(time),),
            ).fetchone()
            if row is not None:
                return row[0], row[1]
        raise UsageError(f"recording {self.path} is empty")

    def between(
        self,
        start: float = -math.inf,
        end: float = math.inf,
        damaged: dict[float, str] | None = None,
    ) -> Iterator[TimedSnapshot]:
        """Yield the snapshots from `start` to `end`, both included, by time, except those that
        retention deletes meanwhile. Why one cannot be read is put into `damaged` by its Unix time;
        without that it is an error."""
        for number, time in self._rows(start, end):
            with self._transaction():
                exists = "SELECT 1 FROM snapshots WHERE id = ?"
                if self._database.execute(exists, (number,)).fetchone() is None:
                    continue
                try:
                    snapshot = self._snapshot(number, time)
                except DamagedSnapshot as error:
                    if damaged is None:
                        raise
                    damaged[time / 1000] = str(error)
                    continue
            yield snapshot

    def _snapshot(self, number: int, time: int) -> TimedSnapshot:
        with self._damage(number):
            encoded = deque(self._chain(number), maxlen=1).pop()
            return TimedSnapshot(time / 1000, codec.decode(encoded))

    @contextmanager
    def _damage(self, number: int) -> Iterator[None]:
        """Turn errors of a snapshot's content, and of its pages, into DamagedSnapshot."""
        try:
            yield
        except (
            ValueError,
            TypeError,
            OverflowError,
            codec.BadSnapshot,
            sqlite3.DatabaseError,
        ) as error:
            raise DamagedSnapshot(
                f"recording {self.path}, snapshot {number}: {_reason(error)}"
            ) from error

    def _chain(self, number: int) -> Iterator[bytes]:
        """Yield the encoded snapshots that build on one another up to this id.

        The chain is unpacked from the whole snapshot that begins it, or from where the last call
        stopped. Raises ValueError if it is damaged.
        """
        key = self._row("key", number)[0]
        if not 0 <= number - key < LONGEST_CHAIN:
            raise ValueError("the snapshot it builds on is too far away")
        last_key, last, raw = self._last
        if last_key != key or last > number:
            last, raw = key - 1, b""
        self._last = 0, 0, b""
        for row in range(last + 1, number + 1):
            raw = unpack(self._row("data", row)[0], raw)
            self._last = key, row, raw
            yield raw
        if last == number:
            self._last = key, number, raw
            yield raw

    def _row(self, column: str, number: int) -> tuple[Any]:
        """Return a column of a snapshot. Raises ValueError if the snapshot does not exist."""
        row: tuple[Any] | None = self._database.execute(
            f"SELECT {column} FROM snapshots WHERE id = ?", (number,)
        ).fetchone()
        if row is None:
            raise ValueError("a snapshot it builds on is missing")
        return row


def _reason(error: Exception) -> str:
    """Return an error's text as one printable line: a column of a damaged table can hold any type,
    strict or not, and SQLite quotes values in its messages."""
    return escape(str(error).encode("utf-8", "backslashreplace"))
