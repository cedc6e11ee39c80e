# SPDX-License-Identifier: Apache-2.0
"""Answers about the past: from the daemon's history, or from a recording that is replayed."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable
from typing import TypeVar

from tornado.web import HTTPError

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.base.escape import text
from slabmon.base.parse import moment
from slabmon.export.text import to_json
from slabmon.sources import MAX_TIMES, TIME_HEADER
from slabmon.store import codec
from slabmon.web.handlers.base import Handler
from slabmon.web.handlers.bodies import Body

T = TypeVar("T")


def _reason(error: SlabmonError) -> str:
    """As a status line can hold it."""
    return text(str(error).encode("ascii", "backslashreplace"))


class PastHandler(Handler):
    """What handlers that look back have in common."""

    async def recalled(self, work: Awaitable[T]) -> T:
        """What this gives; the answer is one line if there is no such past, or no time to look."""
        try:
            return await work
        except TimeoutError:
            raise HTTPError(503, reason="too many look back at once") from None
        except SlabmonError as error:
            raise HTTPError(404, reason=_reason(error)) from error

    def at(self) -> float | None:
        """The Unix time that `at` in the query stands for, None: the present."""
        given = self.get_query_argument("at", None)
        try:
            return None if given is None else moment(given, time.time())
        except UsageError as error:
            raise HTTPError(400, reason=_reason(error)) from error

    async def snapshot_at(self, at: float, encoded: bool) -> None:
        """The snapshot of that time, as JSON or encoded; a header tells when it was taken."""

        def snapshot() -> Body:
            found = self.context.past.at(at)
            self.set_header(TIME_HEADER, f"{found.time:.3f}")
            if encoded:
                return Body(codec.CONTENT_TYPE, codec.encode(found.snapshot))
            return Body("application/json", to_json(found.snapshot).encode())

        await self.send(await self.recalled(self.context.pace.take(snapshot)))


class History(PastHandler):
    """From when to when snapshots can be had; with `from`, `to` and `most`, at which times in
    between."""

    async def get(self, *_: str) -> None:
        wanted = [self.get_query_argument(name, "") for name in ("from", "to", "most")]
        try:
            start, end, most = (float(text) for text in wanted) if any(wanted) else (0.0, 0.0, 0.0)
            # Not a number compares as false.
            if any(wanted) and not (start <= end and 2 <= most <= MAX_TIMES):
                raise ValueError
        except ValueError:
            wrong = f"from, to and most have to be Unix times and 2 to {MAX_TIMES}"
            raise HTTPError(400, reason=wrong) from None

        def span() -> Body:
            past = self.context.past
            first, last = past.span()
            found: dict[str, object] = {"first": first, "last": last}
            if any(wanted):
                found["times"] = past.times(start, end, int(most))
            return Body("application/json", json.dumps(found).encode())

        await self.send(await self.recalled(self.context.pace.take(span)))
