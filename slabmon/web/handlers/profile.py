# SPDX-License-Identifier: Apache-2.0
"""Profiles at the paths where Go's programs have theirs, for go tool pprof and scrapers."""

from __future__ import annotations

from tornado.web import HTTPError

from slabmon.web.handlers.bodies import Body
from slabmon.web.handlers.past import PastHandler

# By path: what the tools show first. The samples are the same, as they are in Go's profiles.
_VALUES = {"heap": "live", "allocs": "allocated"}
# net/http/pprof's; the profile is a file in gzip's format, not a body with that encoding.
_TYPE = "application/octet-stream"


class ProfileHandler(PastHandler):
    """A profile in pprof's format, compressed, of the present or, with `at`, of the past."""

    async def get(self, *names: str) -> None:
        """Answer with the profile; 503 without a fresh reading, or if too many requests wait."""
        value, at = _VALUES[names[0]], self.at()
        try:
            data = await (self._present(value) if at is None else self._past(at, value))
        except TimeoutError:
            raise HTTPError(503, reason="too many concurrent requests") from None
        self.set_header("Content-Disposition", f'attachment; filename="{names[0]}.pb.gz"')
        await self.send(Body(_TYPE, data, compressible=False))

    async def _present(self, value: str) -> bytes:
        reading = await self.fresh(detailed=True)
        return await self.context.profiles.present(reading, value, self.client)

    async def _past(self, at: float, value: str) -> bytes:
        context = self.context
        return await self.recalled(
            context.profiles.past(context.past_views, context.past, at, value, self.client)
        )
