"""Answers about the past: from the daemon's history, or from a recording that is replayed."""

from __future__ import annotations

import json
from collections.abc import Callable

from slabmon.errors import SlabmonError
from slabmon.export.text import to_json
from slabmon.names import text
from slabmon.sources import Past
from slabmon.store import codec
from slabmon.units import moment
from slabmon.web.handler import Handler
from slabmon.web.rendering import Body


def _reason(error: SlabmonError) -> str:
    """As a status line can hold it."""
    return text(str(error).encode("ascii", "backslashreplace"))


class PastHandler(Handler):
    """What handlers that look back have in common."""

    async def recall(self, question: Callable[[Past], Body]) -> None:
        """Answers from the past, or says in one line why not."""
        context = self.context
        try:
            body = await context.pace.take(lambda: question(context.past))
        except TimeoutError:
            self.set_header("Retry-After", "1")
            self.problem(503, "too many look back at once")
        except SlabmonError as error:
            self.problem(404, _reason(error))
        else:
            await self.send(body)

    async def snapshot_at(self, time: str, encoded: bool) -> None:
        """The snapshot of that time, as JSON or encoded."""
        try:
            wanted = moment(time)
        except SlabmonError as error:
            self.problem(400, _reason(error))
            return

        def snapshot(past: Past) -> Body:
            found = past.at(wanted)
            if encoded:
                return Body(codec.CONTENT_TYPE, codec.encode(found))
            return Body("application/json", to_json(found).encode())

        await self.recall(snapshot)


class History(PastHandler):
    """From when to when snapshots can be had."""

    async def get(self, *_: str) -> None:
        def span(past: Past) -> Body:
            first, last = past.span()
            return Body("application/json", json.dumps({"first": first, "last": last}).encode())

        await self.recall(span)
