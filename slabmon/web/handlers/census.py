# SPDX-License-Identifier: Apache-2.0
"""A census as JSON: the last one, or that of a past moment."""

from __future__ import annotations

import math
import time

from tornado.web import HTTPError

from slabmon.base.errors import UsageError
from slabmon.base.escape import escape
from slabmon.census.model import Census
from slabmon.export.census import to_json
from slabmon.model import Snapshot
from slabmon.web.feeds.readings import CensusNow
from slabmon.web.handlers.bodies import Body
from slabmon.web.handlers.past import PastHandler

# A census that is older is answered with, but another one is requested.
MAX_AGE_SECONDS = 60.0
_RETRY_SECONDS = 60


class CensusHandler(PastHandler):
    """The last census. Without `max_age` it is answered with at any age; with `max_age` in seconds
    an older one only if there will be no newer one soon. 503 until there is one to answer with.

    With `at`, the last one before a past moment; 404 if there is none."""

    PARAMETERS = frozenset({"at", "max_age"})

    async def get(self, *_: str) -> None:
        """Answer with the census, or with 503 and the time after which to ask again."""
        max_age, at = self._max_age(), self.at()
        if at is not None:
            await self.send_past(at, _past)
            return
        try:
            now = await self.context.censuses.census(
                MAX_AGE_SECONDS if max_age is None else max_age
            )
        except UsageError as error:
            raise HTTPError(404, reason=str(error)) from error
        census = now.census
        if census is None or (
            max_age is not None and now.figures.running and time.time() - census.taken > max_age
        ):
            self._not_yet(now)
            return
        await self.send(await self.in_turn(lambda: self._body(now.number, census)))

    def _max_age(self) -> float | None:
        given = self.get_query_argument("max_age", None)
        try:
            seconds = None if given is None else float(given)
        except ValueError:
            seconds = math.nan
        if seconds is not None and not seconds >= 0:
            raise HTTPError(400, reason="max_age must be a number of seconds, 0 or more")
        if seconds is not None and self.at() is not None:
            raise HTTPError(400, reason="max_age is of the present, at of the past; use one")
        return seconds

    def _not_yet(self, now: CensusNow) -> None:
        figures = now.figures
        if now.problem:
            reason, seconds = now.problem, 1
        elif figures.running:
            reason, seconds = f"a census is being taken: {100 * figures.done:.0f} % done", 1
        else:
            reason = "no census: the budget of CPU time is used up for now"
            seconds = math.ceil(figures.not_before_seconds) or _RETRY_SECONDS
            if figures.error:
                reason = figures.error
        self.set_header("Retry-After", str(seconds))
        self.problem(503, escape(reason.encode("ascii", "backslashreplace")))

    def _body(self, number: int, census: Census) -> Body:
        """Return the census as JSON, made once."""
        last = self.context.census_body
        if last is None or last[0] != number:
            last = number, Body("application/json", to_json(census).encode())
            self.context.census_body = last
        return last[1]


def _past(snapshot: Snapshot) -> Body:
    if snapshot.census is None:
        raise HTTPError(404, reason="no census had been taken at this moment of the history")
    return Body("application/json", to_json(snapshot.census).encode())
