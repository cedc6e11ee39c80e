# SPDX-License-Identifier: Apache-2.0
"""What is served: metrics, a page, the snapshot for programs, health. Read-only."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from prometheus_client.exposition import choose_encoder
from tornado.web import Application, RequestHandler

from slabmon.export.leaks import SHARE, to_dict
from slabmon.export.text import to_json
from slabmon.store import codec
from slabmon.web.feeds.readings import Now
from slabmon.web.handlers.base import TEXT, Context, Handler
from slabmon.web.handlers.bodies import Body
from slabmon.web.handlers.page import ROUTES
from slabmon.web.handlers.past import History, PastHandler

log = logging.getLogger(__name__)


class Metrics(Handler):
    """Prometheus text or OpenMetrics, as the Accept header prefers. Always an answer: what is
    known, and slabmon_up 0 when it is old."""

    async def get(self, *_: str) -> None:
        now = await self.context.source.now()
        encoder, content_type = choose_encoder(self.request.headers.get("Accept", ""))

        def render(now: Now) -> bytes:
            snapshot = now.reading.snapshot if now.reading else None
            return encoder(
                self.context.exporter.families(
                    snapshot, self.context.daemon(now), self.context.live.assessment()
                )
            )

        await self.send(self.context.renderer.body(content_type, now, render))


class Api(PastHandler):
    """The snapshot as JSON, or encoded with stacks and cgroups for those who ask. Only a fresh
    one, unless an older one is asked for: programs would not notice that it is old."""

    async def get(self, *_: str) -> None:
        encoded = codec.CONTENT_TYPE in self.request.headers.get("Accept", "")
        at = self.at()
        if at is not None:
            await self.snapshot_at(at, encoded)
            return
        now = await self.context.source.now(detailed=encoded)
        if now.problem or now.reading is None:
            self.set_header("Retry-After", "1")
            self.problem(503, now.problem)
            return
        reading = now.reading
        if encoded:
            body = Body(codec.CONTENT_TYPE, reading.encoded)
        else:
            json = lambda _: to_json(reading.snapshot).encode()  # noqa: E731
            body = self.context.renderer.body("application/json", now, json)
        await self.send(body)


class Leaks(PastHandler):
    """Verdicts as JSON, now or as they would have been; `share` is that of memory for
    projections."""

    async def get(self, *_: str) -> None:
        try:
            share = float(self.get_query_argument("share", str(SHARE)))
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            self.problem(400, "share must be above 0, at most 1")
            return
        at, context = self.at(), self.context
        found = context.live.assessment()
        if at is not None:
            found = await self.recalled(context.back.assessment(context.past, at))
        document = to_dict(found, share)
        data = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        await self.send(Body("application/json", data))


class Health(Handler):
    """200 while this process answers at all."""

    async def get(self, *_: str) -> None:
        self.set_header("Content-Type", TEXT)
        self.finish("ok\n")


class Ready(Handler):
    """200 while the kernel's tables can be read in time, else 503 and why."""

    async def get(self, *_: str) -> None:
        now = await self.context.source.now()
        if now.problem:
            self.problem(503, now.problem)
            return
        self.set_header("Content-Type", TEXT)
        self.finish("ready\n")


def make_app(context: Context) -> Application:
    """All routes."""
    routes: list[Any] = [
        *ROUTES,
        (re.escape(context.settings.telemetry_path), Metrics),
        ("/api/v1/snapshot", Api),
        ("/api/v1/history", History),
        ("/api/v1/leaks", Leaks),
        ("/healthz", Health),
        ("/readyz", Ready),
    ]
    return Application(
        routes, default_handler_class=Handler, log_function=_log_request, context=context
    )


def _log_request(handler: RequestHandler) -> None:
    if handler.get_status() == 500:
        log.error("%s %s: %d", handler.request.method, handler.request.path, handler.get_status())
