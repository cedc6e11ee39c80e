# SPDX-License-Identifier: Apache-2.0
"""The wire format between the collector and the web process, over one socket pair.

Before it serves anyone, the web process is still trusted: it takes one JSON line (its settings)
and answers with one framed JSON object (`Started`). From then on it sends single bytes: each asks
for one answer, or shows that it is alive. Only a DOUBT has an argument, of fixed length. The
collector sends answers and, to end the web process, `RETIRE`.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from slabmon.runtime.figures import DaemonFigures, pack, unpack
from slabmon.runtime.files import Identity

# Commands of the web process. DETAILED readings have stacks and cgroup names resolved. CENSUS asks
# for the last census, TAKE_CENSUS for a new one, which is not waited for: the answer has no body.
PLAIN, DETAILED, CENSUS, TAKE_CENSUS = b"s", b"d", b"c", b"t"
COMMANDS = (PLAIN, DETAILED, CENSUS, TAKE_CENSUS)
# Not a command: the web process is alive. Sent every ALIVE_SECONDS.
ALIVE = b"."
ALIVE_SECONDS = 5.0
# Not a command either: tracking is wanted, because somebody looks or growth is being judged.
WANTED = b"w"
# Nor is a doubt: a suspect lacks stacks or certainty. Behind it is the digest of the suspect, which
# the collector compares with those of all that it knows.
DOUBT = b"x"
_DIGEST_BYTES = 8
DIGEST = re.compile(rb"x([0-9A-F]{%d})" % (2 * _DIGEST_BYTES))
UNFINISHED_DIGEST = re.compile(rb"x[0-9A-F]{0,%d}$" % (2 * _DIGEST_BYTES - 1))
# Not an answer: the web process has to finish its requests and end.
RETIRE = b"q"

# A web process without a collector reports that for longer than scrape intervals usually are,
# then it frees the port.
ORPHAN_SECONDS = 20.0

MAX_JSON, MAX_BODY = 1 << 16, 1 << 28
_HEADER = struct.Struct("!4sc?xxxII")
_LENGTH = struct.Struct("!I")
_MAGIC = b"slm2"
HEADER_BYTES = _HEADER.size


def doubt_digest(kind: str, name: str) -> bytes:
    """Return the digest of a suspect, in digits that no command is written with."""
    data = f"{kind}\0{name}".encode()
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest().upper().encode()


# That of no suspect: a census is wanted.
CENSUS_DOUBT = doubt_digest("census", "")


class ProtocolError(Exception):
    """The peer violates the protocol."""


@dataclass(frozen=True)
class Answer:
    """One answer to a command, or RETIRE.

    `figures` are those of the daemon itself, None with RETIRE. `body` is an encoded snapshot or
    census or, when not `ok`, the reason in UTF-8.
    """

    kind: bytes
    ok: bool = True
    figures: DaemonFigures | None = None
    body: bytes = b""

    def pack(self) -> bytes:
        """Return the bytes to send."""
        figures = pack(self.figures) if self.figures else b""
        header = _HEADER.pack(_MAGIC, self.kind, self.ok, len(figures), len(self.body))
        return b"".join((header, figures, self.body))


@dataclass(frozen=True)
class Header:
    """The start of an answer: what it is, and the lengths of its two parts in bytes."""

    kind: bytes
    ok: bool
    figures_bytes: int
    body_bytes: int

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        """Decode HEADER_BYTES. Raises ProtocolError if they are not a header."""
        magic, kind, ok, figures_bytes, body_bytes = _HEADER.unpack(data)
        if magic != _MAGIC or kind not in (*COMMANDS, RETIRE):
            raise ProtocolError("not an answer")
        if figures_bytes > MAX_JSON or body_bytes > MAX_BODY:
            raise ProtocolError("an answer is too long")
        return cls(kind, ok, figures_bytes, body_bytes)

    def answer(self, data: bytes) -> Answer:
        """Return the answer with these parts. Raises ProtocolError if the first is malformed."""
        figures = None
        if self.figures_bytes:
            try:
                figures = unpack(data[: self.figures_bytes])
            except (ValueError, RecursionError) as error:
                raise ProtocolError(f"malformed figures: {error}") from error
        return Answer(self.kind, self.ok, figures, data[self.figures_bytes :])


@dataclass(frozen=True)
class Started:
    """The outcome of a web process's start.

    `files` are the files that it was configured from, with their identity when they were read;
    `error` is why it cannot serve, with its `exit_code`. `tls`: TCP clients have to use TLS.
    """

    files: Mapping[str, Identity] = field(default_factory=dict)
    error: str = ""
    exit_code: int = 0
    tls: bool = False

    def pack(self) -> bytes:
        """Return the bytes to send."""
        body = json.dumps(asdict(self)).encode()
        return _LENGTH.pack(len(body)) + body

    @classmethod
    def unpack(cls, data: bytes) -> tuple[Started, bytes] | None:
        """Decode what has arrived so far: return the message and the bytes after it, or None while
        it is incomplete. Raises ProtocolError if it is malformed."""
        if len(data) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(data)
        if length > MAX_JSON:
            raise ProtocolError("a start message is too long")
        end = _LENGTH.size + length
        if len(data) < end:
            return None
        try:
            fields = json.loads(data[_LENGTH.size : end])
            files = {path: tuple(identity) for path, identity in fields["files"].items()}
            message = cls(
                files, str(fields["error"]), int(fields["exit_code"]), bool(fields["tls"])
            )
            return message, data[end:]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ProtocolError("a start message is malformed") from error
