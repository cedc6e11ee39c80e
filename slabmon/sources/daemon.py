# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a running daemon: http://, https:// or unix:/path."""

from __future__ import annotations

import base64
import http.client
import json
import math
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from slabmon.base.errors import PermissionDenied, UsageError
from slabmon.base.escape import escape
from slabmon.sources import MAX_TIMES, TIME_HEADER

if TYPE_CHECKING:
    from slabmon.export.leaks import Document
    from slabmon.model import Snapshot
    from slabmon.store.recording import Moment

SNAPSHOT, HISTORY, LEAKS = "/api/v1/snapshot", "/api/v1/history", "/api/v1/leaks"
_MAX_DOCUMENT = 16 << 20
_MAX_SPAN = 1 << 16
TIMEOUT_SECONDS = 10.0
_SCHEMES = "http://HOST:PORT, https://HOST:PORT or unix:/PATH"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class DaemonSource:
    """A SnapshotSource over one connection, opened again when the daemon went away in between.

    A path in the URL comes before the API's own, for daemons behind a proxy. `user:password@` in
    the URL is sent as basic authentication; `ca_file` verifies https:// instead of the system's
    certificate authorities.
    """

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        self.url = url
        self._headers: dict[str, str] = {}
        self._connection, self._path = self._parse(url, ca_file)

    def _parse(self, url: str, ca_file: Path | None) -> tuple[http.client.HTTPConnection, str]:
        if url.startswith("unix:"):
            return _UnixConnection(url.removeprefix("unix:").removeprefix("//")), ""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UsageError(f"{url!r} is not a URL: {error}; give {_SCHEMES}") from error
        if parts.scheme not in ("http", "https") or not host:
            raise UsageError(f"{url!r} names no daemon; give {_SCHEMES}")
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            encoded = base64.b64encode(pair.encode()).decode()
            self._headers["Authorization"] = f"Basic {encoded}"
            self.url = url.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1)
        path = parts.path.rstrip("/")
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS), path
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise UsageError(f"cannot read certificates from {ca_file}: {error}") from error
        return (
            http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context),
            path,
        )

    def __enter__(self) -> DaemonSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def snapshot(self, details: bool = False) -> Snapshot:
        """See SnapshotSource. A daemon always sends details."""
        return self._snapshot(SNAPSHOT)[0]

    def at(self, time: float) -> Moment:
        """See Past; UsageError if the daemon keeps no history."""
        from slabmon.store.recording import Moment

        found, headers = self._snapshot(f"{SNAPSHOT}?at={time:.3f}")
        with self._understood():
            return Moment(_finite(headers[TIME_HEADER]), found)

    def span(self) -> tuple[float, float]:
        """See Past; UsageError if the daemon keeps no history."""
        body, _ = self._ask(HISTORY, "application/json", _MAX_SPAN)
        with self._understood():
            found = json.loads(body)
            return _finite(found["first"]), _finite(found["last"])

    def times(self, start: float, end: float, most: int) -> list[float]:
        """See Past; UsageError if the daemon keeps no history."""
        path = f"{HISTORY}?from={start:.3f}&to={end:.3f}&most={min(most, MAX_TIMES)}"
        body, _ = self._ask(path, "application/json", _MAX_SPAN)
        with self._understood():
            return [_finite(time) for time in json.loads(body)["times"]]

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UsageError(f"{self.url} does not answer as slabmon does") from error

    def _snapshot(self, path: str) -> tuple[Snapshot, Message]:
        from slabmon.store import codec

        body, headers = self._ask(path, codec.CONTENT_TYPE, codec.MAX_BYTES)
        try:
            return codec.decode(body), headers
        except codec.BadSnapshot as error:
            raise codec.BadSnapshot(f"from {self.url}: {error}") from error

    def leaks(self, share: float, at: float | None = None) -> Document:
        """What the daemon has to say about leaks, with projections for this share of memory; or
        what it had to say at a Unix time of its history."""
        import msgspec

        from slabmon.export.leaks import SCHEMA, Document

        path = f"{LEAKS}?share={share:g}" + ("" if at is None else f"&at={at:.3f}")
        body, _ = self._ask(path, "application/json", _MAX_DOCUMENT)
        try:
            found = msgspec.json.decode(body, type=Document)
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            raise UsageError(
                f"{self.url} says nothing of leaks that this version understands: "
                f"{escape(str(error).encode())}"
            ) from error
        if found["schema"] != SCHEMA:
            raise UsageError(
                f"{self.url} speaks of leaks in format {found['schema']}; this "
                f"version of slabmon reads format {SCHEMA}"
            )
        return found

    def _ask(self, path: str, wanted: str, limit: int) -> tuple[bytes, Message]:
        """Body and headers of an answer of the content type that is wanted."""
        try:
            asked = {"Accept": wanted, **self._headers}
            headers, body = self._get(self._path + path, asked, limit)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            self._connection.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            message = f"cannot reach slabmon at {self.url}: {reason}; is it running there?"
            if isinstance(error, PermissionError):
                raise PermissionDenied(message) from error
            raise UsageError(message) from error
        if headers["Content-Type"] != wanted:
            raise UsageError(f"{self.url} does not answer as slabmon does; is the URL right?")
        return body, headers

    def _get(self, path: str, headers: dict[str, str], limit: int) -> tuple[Message, bytes]:
        """Headers and body of an answer; refusals are errors."""
        kept = self._connection.sock is not None
        try:
            self._connection.request("GET", path, headers=headers)
            answer = self._connection.getresponse()
        except (ConnectionError, http.client.BadStatusLine):
            self._connection.close()
            if not kept:
                raise
            # A connection from before, which the daemon has closed since.
            return self._get(path, headers, limit)
        body = answer.read(limit + 1)
        if not answer.isclosed():  # more would come, or less came than was promised
            self._connection.close()
        if answer.status in (401, 403):
            raise PermissionDenied(
                f"{self.url} refuses: {answer.status} {answer.reason}; "
                "give http://USER:PASSWORD@HOST:PORT as it is set up there"
            )
        if answer.status != 200:
            reason = f"{answer.status} {answer.reason}"
            if body.startswith(b"%d " % answer.status):  # one line, as slabmon's own errors are
                reason = escape(body[:300].splitlines()[0])
            raise UsageError(f"{self.url} answers: {reason}")
        return answer.headers, body


def _finite(value: object) -> float:
    found = float(value)  # type: ignore[arg-type]  # what is none is an error
    if not math.isfinite(found):
        raise ValueError
    return found
