# SPDX-License-Identifier: Apache-2.0
"""The past of the window that the page shows, for clients that show the same."""

from __future__ import annotations

from tornado.web import HTTPError

from slabmon.sources.read_limit import WINDOW
from slabmon.views.window_past import CONTENT_TYPE, encode
from slabmon.web.handlers.base import Handler
from slabmon.web.handlers.bodies import Body


class WindowHandler(Handler):
    """The past of the present window, in slabmon's encoding; 503 while there is no window."""

    PARAMETERS = frozenset()

    async def get(self, *_: str) -> None:
        """Answer with as many moments as a client would read of a history."""
        moment = await self.context.live.moment(self.context.source)
        if isinstance(moment, str):
            raise HTTPError(503, reason=moment)
        window = moment.window
        most = WINDOW.points(window.snapshot)
        await self.send(await self.in_turn(lambda: Body(CONTENT_TYPE, encode(window.past, most))))
