# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a running daemon: http://, https:// or unix:/path."""

from __future__ import annotations

import base64
import http.client
import json
import math
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

from slabmon.base.errors import DamagedSnapshot, PermissionDenied, UsageError
from slabmon.base.escape import escape
from slabmon.sources import DAMAGED_STATUS, MAX_TIMES, TIME_HEADER

if TYPE_CHECKING:
    from slabmon.census.model import Census
    from slabmon.export.leaks import Document
    from slabmon.memory.ledger import Ledger
    from slabmon.model import Snapshot
    from slabmon.store.recording import TimedSnapshot
    from slabmon.views.window_past import WindowPast

SNAPSHOT, HISTORY, LEAKS = "/api/v1/snapshot", "/api/v1/history", "/api/v1/leaks"
CENSUS, MEMORY = "/api/v1/census", "/api/v1/memory"
WINDOW = "/api/v1/window"
_MAX_DOCUMENT = 16 << 20
_MAX_CENSUS = 64 << 20
_MAX_SPAN = 1 << 16
TIMEOUT_SECONDS = 10.0
# A census this young answers a request for one.
_CENSUS_SECONDS = 10.0
_DIGITS = "[0-9]{1,9}"
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


class NotReady(UsageError):
    """The daemon cannot answer yet, but maybe in `seconds` (inf: it does not say when)."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class NoDaemon(UsageError):
    """Nobody listens at the daemon's address."""


class DaemonSource:
    """A SnapshotSource, a CensusTaker and a Past over one connection, reopened if the daemon has
    closed it.

    A path in the URL is prepended to the API's paths, for daemons behind a proxy. `user:password@`
    in the URL is sent as basic authentication. `ca_file` verifies https:// instead of the system's
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
            # Checks the characters of a host; nothing is connected before the first request.
            plain = http.client.HTTPConnection(host or "", port, timeout=TIMEOUT_SECONDS)
        except (ValueError, http.client.InvalidURL) as error:
            raise UsageError(f"{url!r} is not a URL: {error}; expected {_SCHEMES}") from error
        if parts.scheme not in ("http", "https") or not host:
            raise UsageError(f"{url!r} is not the URL of a daemon; expected {_SCHEMES}")
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            encoded = base64.b64encode(pair.encode()).decode()
            self._headers["Authorization"] = f"Basic {encoded}"
            self.url = url.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1)
        path = parts.path.rstrip("/")
        if parts.scheme == "http":
            return plain, path
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise UsageError(f"cannot read certificates from {ca_file}: {error}") from error
        return (
            http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context),
            path,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def snapshot(self, details: bool = False) -> Snapshot:
        """See SnapshotSource. A daemon always sends details."""
        return self._snapshot(SNAPSHOT)[0]

    def at(self, time: float) -> TimedSnapshot:
        """See Past; UsageError if the daemon keeps no history."""
        from slabmon.store.recording import TimedSnapshot

        snapshot, headers = self._snapshot(f"{SNAPSHOT}?at={time:.3f}")
        with self._malformed_as_usage_error():
            return TimedSnapshot(_finite(headers[TIME_HEADER]), snapshot)

    def span(self) -> tuple[float, float]:
        """See Past; UsageError if the daemon keeps no history."""
        body, _ = self._ask(HISTORY, "application/json", _MAX_SPAN)
        with self._malformed_as_usage_error():
            span = json.loads(body)
            return _finite(span["first"]), _finite(span["last"])

    def times(self, start: float, end: float, most: int) -> list[float]:
        """See Past; UsageError if the daemon keeps no history."""
        path = f"{HISTORY}?from={start:.3f}&to={end:.3f}&most={min(most, MAX_TIMES)}"
        body, _ = self._ask(path, "application/json", _MAX_SPAN)
        with self._malformed_as_usage_error():
            return [_finite(time) for time in json.loads(body)["times"]]

    @contextmanager
    def _malformed_as_usage_error(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UsageError(f"{self.url}: not the answer of a slabmon daemon") from error

    def _snapshot(self, path: str) -> tuple[Snapshot, Message]:
        from slabmon.store import codec

        body, headers = self._ask(path, codec.CONTENT_TYPE, codec.MAX_BYTES)
        try:
            return codec.decode(body), headers
        except codec.BadSnapshot as error:
            raise codec.BadSnapshot(f"from {self.url}: {error}") from error

    def window(self) -> WindowPast:
        """Return the past of the window that the daemon's page shows, some ten minutes."""
        from slabmon.views import window_past

        body, _ = self._ask(WINDOW, window_past.CONTENT_TYPE, window_past.MAX_BYTES)
        try:
            return window_past.decode(body)
        except window_past.BadWindow as error:
            raise UsageError(f"{self.url}: {error}") from error

    def leaks(self, share: float, at: float | None = None) -> Document:
        """Return the daemon's verdicts, with projections for this share of memory.

        `at`: a Unix time of its history, None for the present.
        """
        import msgspec

        from slabmon.export.leaks import SCHEMA, Document

        path = f"{LEAKS}?share={share:g}" + ("" if at is None else f"&at={at:.3f}")
        body, _ = self._ask(path, "application/json", _MAX_DOCUMENT)
        try:
            document = msgspec.json.decode(body, type=Document)
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            raise UsageError(
                f"{self.url}: this version of slabmon does not understand the daemon's verdicts: "
                f"{escape(str(error).encode())}"
            ) from error
        if document["schema"] != SCHEMA:
            raise UsageError(
                f"{self.url} sends verdicts in format {document['schema']}; this version of "
                f"slabmon reads format {SCHEMA}"
            )
        return document

    def census(self) -> Census:
        """Return a census that the daemon has just taken, or the last one if it may not take one
        now. Raises NotReady while it takes one, and if there is none and it may not take one."""
        from slabmon.export.census import from_json

        path = f"{CENSUS}?max_age={_CENSUS_SECONDS:g}"
        body, _ = self._ask(path, "application/json", _MAX_CENSUS)
        return from_json(body, self.url)

    def request_census(self) -> None:
        """See CensusTaker."""
        with suppress(UsageError):  # it takes one, or may not now, or is of an earlier version
            self.census()

    def memory(self) -> Ledger:
        """Return the ledger of all memory, with struct pages that the daemon has just read, or has
        read last if it may not read them now. Raises NotReady while it reads them."""
        from slabmon.export.memory import from_json

        path = f"{MEMORY}?max_age={_CENSUS_SECONDS:g}"
        body, _ = self._ask(path, "application/json", _MAX_DOCUMENT)
        return from_json(body, self.url)

    def _ask(self, path: str, content_type: str, limit: int) -> tuple[bytes, Message]:
        """Return body and headers of an answer of this content type."""
        try:
            request_headers = {"Accept": content_type, **self._headers}
            headers, body = self._get(self._path + path, request_headers, limit)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            self._connection.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            message = f"cannot reach slabmon at {self.url}: {reason}; is it running there?"
            if isinstance(error, PermissionError):
                raise PermissionDenied(message) from error
            if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
                raise NoDaemon(message) from error
            raise UsageError(message) from error
        if headers["Content-Type"] != content_type:
            raise UsageError(f"{self.url}: not the answer of a slabmon daemon; is the URL right?")
        return body, headers

    def _get(self, path: str, headers: dict[str, str], limit: int) -> tuple[Message, bytes]:
        """Return headers and body of an answer. Raises an error if it is a refusal."""
        reused = self._connection.sock is not None
        try:
            self._connection.request("GET", path, headers=headers)
            answer = self._connection.getresponse()
        except (ConnectionError, http.client.BadStatusLine):
            self._connection.close()
            if not reused:
                raise
            # The daemon has closed this connection since the last request.
            return self._get(path, headers, limit)
        body = answer.read(limit + 1)
        if not answer.isclosed():  # longer than the limit, or shorter than announced
            self._connection.close()
        if answer.status in (401, 403):
            raise PermissionDenied(
                f"{self.url} denies access: {answer.status} {answer.reason}; "
                "use http://USER:PASSWORD@HOST:PORT as configured there"
            )
        if answer.status != 200:
            reason = f"{answer.status} {answer.reason}"
            if body.startswith(b"%d " % answer.status):  # one line, as in slabmon's own errors
                reason = escape(body[:300].splitlines()[0])
            message = f"{self.url} answered: {reason}"
            if answer.status == 503:
                after = answer.headers.get("Retry-After", "")
                raise NotReady(message, float(after) if re.fullmatch(_DIGITS, after) else math.inf)
            if answer.status == DAMAGED_STATUS:
                raise DamagedSnapshot(message)
            raise UsageError(message)
        return answer.headers, body


def _finite(value: object) -> float:
    number = float(value)  # type: ignore[arg-type]  # raises if it is not a number
    if not math.isfinite(number):
        raise ValueError
    return number
