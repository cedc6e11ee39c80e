# SPDX-License-Identifier: Apache-2.0
"""What the collector and the web process say to each other, over one socket pair.

Before it serves anyone, the web process is still trusted: it takes one JSON line (its settings)
and answers with one framed JSON object (`Started`). From then on it can send single bytes only:
each asks for one answer, or says that it is alive. The collector sends answers and, to end it,
`RETIRE`. This module is imported on both sides and imports nothing heavy.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from slabmon.runtime.files import Identity

# Commands of the web process. DETAILED readings have stacks and cgroup names resolved.
PLAIN, DETAILED = b"s", b"d"
# Not a command: the web process is alive. It says so every ALIVE_SECONDS.
ALIVE = b"."
ALIVE_SECONDS = 5.0
# Not an answer: the web process has to finish what it is doing and end.
RETIRE = b"q"

# Without a collector it goes on saying so for longer than scrapers usually wait between scrapes,
# then it gives the port free.
ORPHAN_SECONDS = 20.0

MAX_REPORT, MAX_BODY = 1 << 16, 1 << 28
_HEADER = struct.Struct("!4sc?xxxII")
_LENGTH = struct.Struct("!I")
_MAGIC = b"slm1"
HEADER_BYTES = _HEADER.size


class Garbage(Exception):
    """The other side does not keep to the protocol."""


@dataclass(frozen=True)
class Answer:
    """One answer. `report` are figures of the daemon itself by name; `body` is an encoded
    snapshot, or when not `ok` the reason in UTF-8."""

    kind: bytes
    ok: bool = True
    report: Mapping[str, float] = field(default_factory=dict)
    body: bytes = b""

    def pack(self) -> bytes:
        """As sent."""
        report = json.dumps(dict(self.report)).encode()
        header = _HEADER.pack(_MAGIC, self.kind, self.ok, len(report), len(self.body))
        return b"".join((header, report, self.body))


@dataclass(frozen=True)
class Header:
    """What comes before an answer's report and body, and how long they are."""

    kind: bytes
    ok: bool
    report_bytes: int
    body_bytes: int

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        """Reads HEADER_BYTES; Garbage when they are no header."""
        magic, kind, ok, report_bytes, body_bytes = _HEADER.unpack(data)
        if magic != _MAGIC or kind not in (PLAIN, DETAILED, RETIRE):
            raise Garbage("not an answer")
        if report_bytes > MAX_REPORT or body_bytes > MAX_BODY:
            raise Garbage("an answer is too long")
        return cls(kind, ok, report_bytes, body_bytes)

    def answer(self, data: bytes) -> Answer:
        """The answer whose report and body these are; Garbage when the report is none."""
        try:
            report = json.loads(data[: self.report_bytes])
            values = {str(name): float(value) for name, value in report.items()}
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise Garbage("a report is not a table of numbers") from error
        return Answer(self.kind, self.ok, values, data[self.report_bytes :])


@dataclass(frozen=True)
class Started:
    """How a web process came up: the files it was configured from, as path -> identity when
    they were read, or why it did not. `tls`: whether TCP clients have to speak it."""

    files: Mapping[str, Identity] = field(default_factory=dict)
    error: str = ""
    exit_code: int = 0
    tls: bool = False

    def pack(self) -> bytes:
        """As sent."""
        body = json.dumps(asdict(self)).encode()
        return _LENGTH.pack(len(body)) + body

    @classmethod
    def unpack(cls, data: bytes) -> tuple[Started, bytes] | None:
        """Reads what has arrived so far: the message and what came after it; None while it is
        not complete."""
        if len(data) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(data)
        if length > MAX_REPORT:
            raise Garbage("a start message is too long")
        end = _LENGTH.size + length
        if len(data) < end:
            return None
        try:
            fields = json.loads(data[_LENGTH.size : end])
            files = {path: tuple(identity) for path, identity in fields["files"].items()}
            found = cls(files, str(fields["error"]), int(fields["exit_code"]), bool(fields["tls"]))
            return found, data[end:]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Garbage("a start message is not one") from error
