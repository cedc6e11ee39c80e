"""The HTTP side of the daemon, on Tornado. Read-only."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.exposition import choose_encoder
from tornado.template import Loader, Template
from tornado.web import Application, RequestHandler

from slabmon import __version__
from slabmon.analysis.table import Table
from slabmon.export.catalogue import Daemon
from slabmon.export.human import texts
from slabmon.export.prometheus import Exporter
from slabmon.export.text import to_json
from slabmon.model import Snapshot
from slabmon.store import codec
from slabmon.views import VIEWS
from slabmon.web.connections import Connections
from slabmon.web.readings import Now, Source
from slabmon.web.rendering import Body, Renderer
from slabmon.web.settings import WebSettings

log = logging.getLogger(__name__)
_PAGE_VIEWS = (("caches", 25), ("sites", 25), ("devices", 50), ("gfp", None), ("losses", None),
               ("features", None))  # fmt: skip
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_TEXT = "text/plain; charset=utf-8"


def page_template() -> Template:
    """The page's template, read from its file."""
    return Loader(str(Path(__file__).parent / "templates")).load("index.html")


@dataclass
class Context:
    """What handlers work with."""

    settings: WebSettings
    connections: Connections
    source: Source
    template: Template

    def __post_init__(self) -> None:
        self.renderer = Renderer()
        self.exporter = Exporter()

    def daemon(self, now: Now) -> Daemon:
        """The daemon's own figures at this moment."""
        return Daemon(
            report=now.report,
            up=bool(now.reading) and not now.problem,
            age=now.reading.age if now.reading else None,
            scrape_seconds=now.reading.seconds if now.reading else None,
            errors={"timeout": self.source.timeouts, "unreadable": self.source.failures},
            connections=len(self.connections),
            refused=self.connections.refused,
        )

    def page(self, snapshot: Snapshot, now: Now) -> bytes:
        """The page at `/`: what matters most, as tables, refreshed by the browser."""
        tables = []
        for name, limit in _PAGE_VIEWS:
            table = Table.of(VIEWS[name], snapshot)
            columns = table.brief
            tables.append((name, [column.heading for column in columns],
                           texts(table, table.order()[:limit], columns)))  # fmt: skip
        return self.template.generate(
             snapshot=snapshot, tables=tables, version=__version__, problem=now.problem,
             age=now.reading.age if now.reading else 0, metrics=self.settings.telemetry_path[1:],
         )  # fmt: skip


class Handler(RequestHandler):
    """Common headers; GET and HEAD only; errors in one line of text."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    def initialize(self, context: Context) -> None:
        self.context = context
        self._stream = self.request.connection.stream  # type: ignore[union-attr]

    def set_default_headers(self) -> None:
        self.set_header("Server", f"slabmon/{__version__}")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Cache-Control", "no-store")

    async def prepare(self) -> None:
        self.context.connections.request(self._stream)

    def on_finish(self) -> None:
        self.context.connections.answered(self._stream)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.SUPPORTED_METHODS))
        self.problem(status_code, self._reason)

    def problem(self, status: int, reason: str) -> None:
        """Ends the request with one line."""
        self.set_status(status)
        self.set_header("Content-Type", _TEXT)
        self.finish(f"{status} {reason}\n")

    async def head(self, *_: str) -> None:
        await self.get()

    async def get(self, *_: str) -> None:
        self.send_error(404)

    async def send(self, body: Body) -> None:
        """Answers with a body, compressed or not at all if the client says it may be."""
        self.set_header("Content-Type", body.content_type)
        self.set_header("Cache-Control", "private, no-cache")
        self.set_header("Vary", "Accept, Accept-Encoding")
        self.set_header("Etag", body.etag)
        if self.check_etag_header():
            self.set_status(304)
            self.finish()
            return
        data = body.data
        if _takes_gzip(self.request.headers.get("Accept-Encoding", "")):
            self.set_header("Content-Encoding", "gzip")
            data = body.compressed
        if not self.context.connections.may_send(self._stream, len(data)):
            self.clear()
            self.problem(503, "too many answers are waiting for slow clients")
            return
        self.finish(data)

    def compute_etag(self) -> None:
        """Bodies bring their own."""


def _takes_gzip(accepted: str) -> bool:
    for coding in accepted.lower().split(","):
        name, _, parameters = coding.partition(";")
        if name.strip() in ("gzip", "*"):
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


class Metrics(Handler):
    """Prometheus text or OpenMetrics, as the Accept header prefers. Always an answer: what is
    known, and slabmon_up 0 when it is old."""

    async def get(self, *_: str) -> None:
        now = await self.context.source.now()
        encoder, content_type = choose_encoder(self.request.headers.get("Accept", ""))

        def render(now: Now) -> bytes:
            snapshot = now.reading.snapshot if now.reading else None
            return encoder(self.context.exporter.families(snapshot, self.context.daemon(now)))

        await self.send(self.context.renderer.body(content_type, now, render))


class Page(Handler):
    """The page for a person; an old reading says that it is one."""

    async def get(self, *_: str) -> None:
        now = await self.context.source.now()
        if now.reading is None:
            self.problem(503, now.problem)
            return
        snapshot = now.reading.snapshot
        render = lambda now: self.context.page(snapshot, now)  # noqa: E731
        await self.send(self.context.renderer.body("text/html; charset=utf-8", now, render))


class Api(Handler):
    """The snapshot as JSON, or encoded with stacks and cgroups for those who ask. Only a fresh
    one: programs would not notice that it is old."""

    async def get(self, *_: str) -> None:
        encoded = codec.CONTENT_TYPE in self.request.headers.get("Accept", "")
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


class Health(Handler):
    """200 while this process answers at all."""

    async def get(self, *_: str) -> None:
        self.set_header("Content-Type", _TEXT)
        self.finish("ok\n")


class Ready(Handler):
    """200 while the kernel's tables can be read in time, else 503 and why."""

    async def get(self, *_: str) -> None:
        now = await self.context.source.now()
        if now.problem:
            self.problem(503, now.problem)
            return
        self.set_header("Content-Type", _TEXT)
        self.finish("ready\n")


def make_app(context: Context) -> Application:
    """All routes."""
    routes: list[tuple[str, type[Handler]]] = [
        ("/", Page), (re.escape(context.settings.telemetry_path), Metrics),
        ("/api/v1/snapshot", Api), ("/healthz", Health), ("/readyz", Ready),
    ]  # fmt: skip
    arguments = {"context": context}
    return Application(
        [(path, handler, arguments) for path, handler in routes],
        default_handler_class=Handler, default_handler_args=arguments, log_function=_log_request,
    )  # fmt: skip


def _log_request(handler: RequestHandler) -> None:
    if handler.get_status() == 500:
        log.error("%s %s: %d", handler.request.method, handler.request.path, handler.get_status())
