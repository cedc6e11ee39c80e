# SPDX-License-Identifier: Apache-2.0
"""The ledger of all memory, as JSON."""

from __future__ import annotations

import dataclasses
import time

from tornado.web import HTTPError

from slabmon.analysis.page_holders import with_holders
from slabmon.base.errors import UsageError
from slabmon.export.memory import to_json
from slabmon.memory.ledger import Ledger, account
from slabmon.model import Snapshot
from slabmon.web.feeds.readings import CensusNow
from slabmon.web.handlers.bodies import Body
from slabmon.web.handlers.census import CensusHandler

# Struct pages read this long ago are good enough unless the client says otherwise: kernel pages
# that no counter names change slowly, and reading them is part of a census.
_MAX_AGE_SECONDS = 3600.0


class MemoryHandler(CensusHandler):
    """The counters as of now, with the struct pages of the last census. With `max_age` in seconds
    older ones are only answered with if there will be no newer ones soon; without it, and before
    the first census, the ledger is that of the counters alone. 503 without fresh counters.

    With `at`, both as they were at a past moment; 404 if that has none."""

    async def get(self, *_: str) -> None:
        """Answer with the ledger."""
        max_age, at = self._max_age(), self.at()
        if at is not None:
            await self.send_past(at, _past)
            return
        try:
            census = await self.context.censuses.census(
                _MAX_AGE_SECONDS if max_age is None else max_age
            )
        except UsageError:  # a recording, which has the counters
            census = CensusNow()
        snapshot = (await self.fresh()).snapshot
        memory = snapshot.memory
        if memory is None:
            raise HTTPError(503, reason="the counters of memory could not be read")
        if max_age is not None and census.figures.running:
            taken = census.census.taken if census.census else 0.0
            if time.time() - taken > max_age:
                self._not_yet(census)
                return
        ledger = dataclasses.replace(
            account(memory, census.census.memory if census.census else None),
            growth=self.context.live.uncounted.growth(memory),
            host=snapshot.host,
        )
        await self.send(await self.in_turn(lambda: _body(with_holders(ledger, snapshot))))


def _past(snapshot: Snapshot) -> Body:
    memory, census = snapshot.memory, snapshot.census
    if memory is None:
        raise HTTPError(404, reason="this moment of the history has no counters of memory")
    ledger = account(memory, census.memory if census else None)
    return _body(with_holders(dataclasses.replace(ledger, host=snapshot.host), snapshot))


def _body(ledger: Ledger) -> Body:
    return Body("application/json", to_json(ledger).encode())
