"""The HTTP side of the daemon, on Tornado. Read-only."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from prometheus_client.exposition import choose_encoder
from tornado.web import Application, RequestHandler

from slabmon import __version__
from slabmon.analysis.table import Table
from slabmon.export.human import texts
from slabmon.export.text import to_json
from slabmon.service import Service
from slabmon.views import VIEWS

log = logging.getLogger(__name__)
_PAGE_VIEWS = (("caches", 25), ("sites", 25), ("devices", 50), ("gfp", None), ("losses", None),
               ("features", None))  # fmt: skip
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class Handler(RequestHandler):
    """Common headers; GET and HEAD only; errors in one line of text."""

    def initialize(self, service: Service) -> None:
        self.service = service

    def set_default_headers(self) -> None:
        self.set_header("Server", f"slabmon/{__version__}")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Cache-Control", "no-store")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code} {self._reason}\n")

    async def head(self, *_: str) -> None:
        await self.get()

    async def get(self, *_: str) -> None:
        raise NotImplementedError


def answer(content_type: str, produce: Callable[[Service], Awaitable[str]]) -> type[Handler]:
    """A handler for one kind of body."""

    class Answer(Handler):
        """See `produce`."""

        async def get(self, *_: str) -> None:
            body = await produce(self.service)
            self.set_header("Content-Type", content_type)
            self.finish(body)

    return Answer


class Metrics(Handler):
    """Prometheus text or OpenMetrics, as the Accept header prefers."""

    async def get(self, *_: str) -> None:
        encoder, content_type = choose_encoder(self.request.headers.get("Accept", ""))
        body = await self.service.run(lambda: encoder(self.service.registry))
        self.set_header("Content-Type", content_type)
        self.finish(body)


class Page(Handler):
    """The page at `/`: what matters most, as tables, refreshed by the browser."""

    async def get(self, *_: str) -> None:
        snapshot = await self.service.run(self.service.snapshot)
        tables = []
        for name, limit in _PAGE_VIEWS:
            table = Table.of(VIEWS[name], snapshot)
            columns = table.brief
            tables.append((name, [column.heading for column in columns],
                           texts(table, table.order()[:limit], columns)))  # fmt: skip
        self.render("index.html", snapshot=snapshot, tables=tables, version=__version__)


class Ready(Handler):
    """200 once the kernel's tables can be read."""

    async def get(self, *_: str) -> None:
        await self.service.run(self.service.snapshot)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("ready\n")


async def _healthy(_: Service) -> str:
    return "ok\n"


async def _json(service: Service) -> str:
    return await service.run(lambda: to_json(service.snapshot()))


def make_app(service: Service) -> Application:
    """All routes."""
    context = {"service": service}
    return Application(
        [
            ("/", Page, context),
            ("/metrics", Metrics, context),
            ("/api/v1/snapshot", answer("application/json", _json), context),
            ("/healthz", answer("text/plain; charset=utf-8", _healthy), context),
            ("/readyz", Ready, context),
        ],
        default_handler_class=NotFound,
        default_handler_args=context,
        template_path=str(Path(__file__).parent / "templates"),
        compress_response=True,
        log_function=_log_request,
    )


class NotFound(Handler):
    """Any other path."""

    async def get(self, *_: str) -> None:
        self.send_error(404)


def _log_request(handler: RequestHandler) -> None:
    if handler.get_status() >= 500:
        log.error("%s %s: %d", handler.request.method, handler.request.path, handler.get_status())
