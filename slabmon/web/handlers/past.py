# SPDX-License-Identifier: Apache-2.0
"""Answers for programs, about the present or the past: snapshots, leaks, the history's extent.

The past comes from the daemon's history, or from the recording that is replayed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from tornado.web import HTTPError

from slabmon.base.errors import DamagedSnapshot, SlabmonError, UsageError
from slabmon.base.escape import escape
from slabmon.base.parse import moment
from slabmon.export.leaks import SHARE, to_dict
from slabmon.export.text import to_json
from slabmon.model import Snapshot
from slabmon.sources import DAMAGED_STATUS, MAX_TIMES, TIME_HEADER
from slabmon.store import codec
from slabmon.web.feeds.readings import Now
from slabmon.web.handlers.base import Handler
from slabmon.web.handlers.bodies import Body

if TYPE_CHECKING:
    from slabmon.store.recording import TimedSnapshot

T = TypeVar("T")


def _reason(error: SlabmonError) -> str:
    """Return an error's text as an HTTP status line can hold it."""
    return escape(str(error).encode("ascii", "backslashreplace"))


class PastHandler(Handler):
    """Base of all handlers with an `at` parameter."""

    async def recalled(self, work: Awaitable[T]) -> T:
        """Await work on the past. Raises HTTPError 404 if there is no such past, 410 if it is
        damaged, 503 if too many requests wait for theirs."""
        try:
            return await work
        except TimeoutError:
            raise HTTPError(503, reason="too many concurrent history requests") from None
        except DamagedSnapshot as error:
            raise HTTPError(DAMAGED_STATUS, reason=_reason(error)) from error
        except SlabmonError as error:
            raise HTTPError(404, reason=_reason(error)) from error

    async def send_past(self, at: float, make: Callable[[Snapshot], Body]) -> None:
        """Answer with what `make` makes of the last snapshot taken at or before `at`; a header
        holds its time."""

        def render(recorded: TimedSnapshot) -> Body:
            self.set_header(TIME_HEADER, f"{recorded.time:.3f}")
            return make(recorded.snapshot)

        context = self.context
        body = await self.recalled(
            context.past_views.snapshot(
                context.past, at, render, client=self.client, finish=self.compress
            )
        )
        await self.send(body)

    def at(self) -> float | None:
        """Return the `at` parameter as Unix time, None for the present. Raises HTTPError 400."""
        given = self.get_query_argument("at", None)
        try:
            return None if given is None else moment(given, time.time())
        except UsageError as error:
            raise HTTPError(400, reason=_reason(error)) from error


class SnapshotHandler(PastHandler):
    """The snapshot as JSON, or with stacks and cgroups in slabmon's encoding if Accept names it.

    Without `at` only a fresh snapshot is served: a program would not notice an old one.
    """

    PARAMETERS = frozenset({"at"})

    async def get(self, *_: str) -> None:
        """Answer with the present or, with `at`, a past snapshot."""
        encoded = codec.CONTENT_TYPE in self.request.headers.get("Accept", "")
        kind = codec.CONTENT_TYPE if encoded else "application/json"
        encode = codec.encode if encoded else _json
        at = self.at()
        if at is not None:
            await self.send_past(at, lambda snapshot: Body(kind, encode(snapshot)))
            return
        if encoded:  # a slabmon that shows it
            self.context.source.want_tracking()
        reading = await self.fresh(detailed=encoded)

        def render(_: Now) -> bytes:
            return encode(reading.snapshot)

        now = Now(reading, None)
        await self.send(await self.in_turn(lambda: self.context.snapshots.body(kind, now, render)))


def _json(snapshot: Snapshot) -> bytes:
    return to_json(snapshot).encode()


class LeaksHandler(PastHandler):
    """Verdicts as JSON, of the present or the past; projections end when `share` of the host's
    memory is full."""

    PARAMETERS = frozenset({"at", "share"})

    async def get(self, *_: str) -> None:
        """Answer with the assessment. 400 if `share` is not in (0, 1]."""
        try:
            share = float(self.get_query_argument("share", str(SHARE)))
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            self.problem(400, "share must be above 0 and at most 1")
            return
        at, context = self.at(), self.context
        past = None
        if at is not None:
            past = await self.recalled(
                context.past_views.assessment(context.past, at, client=self.client)
            )

        def leaks() -> Body:
            document = to_dict(context.live.assessment() if past is None else past, share)
            data = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
            return Body("application/json", data)

        await self.send(await self.in_turn(leaks))


class HistoryHandler(PastHandler):
    """The first and last time of the history; with `from`, `to` and `most` (Unix times and a
    count), also the times of `most` snapshots between them at most."""

    PARAMETERS = frozenset({"from", "to", "most"})

    async def get(self, *_: str) -> None:
        """Answer with the history's extent. 400 if some, but not all parameters make sense."""
        given = [self.get_query_argument(name, "") for name in ("from", "to", "most")]
        try:
            start, end, most = (float(text) for text in given) if any(given) else (0.0, 0.0, 0.0)
            # NaN compares as false.
            if any(given) and not (start <= end and 2 <= most <= MAX_TIMES):
                raise ValueError
        except ValueError:
            reason = f"from and to must be Unix times, most must be 2 to {MAX_TIMES}"
            raise HTTPError(400, reason=reason) from None

        def span() -> Body:
            past = self.context.past
            first, last = past.span()
            document: dict[str, object] = {"first": first, "last": last}
            if any(given):
                document["times"] = past.times(start, end, int(most))
            return Body("application/json", json.dumps(document).encode())

        await self.send(await self.recalled(self.in_turn(span)))
