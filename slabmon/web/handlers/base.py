# SPDX-License-Identifier: Apache-2.0
"""The base of all handlers: access control, headers, encodings, errors in one line of text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tornado.iostream import IOStream
from tornado.web import HTTPError, RequestHandler

from slabmon import __version__
from slabmon.export.metrics import Daemon
from slabmon.export.prometheus import Exporter
from slabmon.sources import SteppedPast
from slabmon.web.feeds.duty_cycle import DutyCycle
from slabmon.web.feeds.history_writer import HistoryWriter
from slabmon.web.feeds.live import LiveViews
from slabmon.web.feeds.past_views import PastViews
from slabmon.web.feeds.profiles import Profiles
from slabmon.web.feeds.readings import CensusSource, Now, Reading, ReadingSource
from slabmon.web.handlers.bodies import Body, Renderer
from slabmon.web.serving.access import Access
from slabmon.web.serving.connections import LOCAL, Connections
from slabmon.web.settings import WebSettings

_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
TEXT = "text/plain; charset=utf-8"
_SHOWN_CHARACTERS = 50  # of what a client sent


@dataclass
class Context:
    """The state of one web process that handlers work with.

    `source`, `censuses` and `past` are set once the collector has answered. `history` is the writer
    of the daemon's history, None in a replay.
    """

    settings: WebSettings
    access: Access
    files: Mapping[str, Body]
    source: ReadingSource = field(init=False)
    censuses: CensusSource = field(init=False)
    past: SteppedPast = field(init=False)
    history: HistoryWriter | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.connections = Connections(self.settings)
        self.metrics, self.snapshots = Renderer(), Renderer()
        self.duty_cycle = DutyCycle()
        self.exporter = Exporter(self.settings.max_series, self.settings.choice)
        self.live = LiveViews()
        self.profiles = Profiles(self.duty_cycle)
        self.census_body: tuple[int, Body] | None = None  # with the number of its census
        self.past_views = PastViews(self.duty_cycle)

    def daemon(self, now: Now) -> Daemon:
        """Return the daemon's own figures, for metrics."""
        return Daemon(
            figures=now.figures,
            up=bool(now.reading) and not now.problem,
            age=now.reading.age if now.reading else None,
            scrape_seconds=now.reading.seconds if now.reading else None,
            errors={"timeout": self.source.timeouts, "unreadable": self.source.failures},
            census_age=max(0.0, time.time() - now.census.taken) if now.census else None,
            connections=len(self.connections),
            refused=self.connections.refused,
            authentication_failures=self.access.failures,
            callers=self.live.callers(),
            cgroups=self.live.cgroups(),
            history=self.history.recording if self.history else None,
        )


class Handler(RequestHandler):
    """Base of all handlers: GET and HEAD only.

    PUBLIC handlers answer without a password, client certificate or rate limit. A request with a
    parameter that is not one of PARAMETERS, which would have no effect, is answered with 400; None
    is for handlers whose clients add parameters of their own.
    """

    SUPPORTED_METHODS = ("GET", "HEAD")
    PUBLIC = False
    PARAMETERS: frozenset[str] | None = None
    client = ""

    @property
    def context(self) -> Context:
        """The context that the application was made with."""
        context: Context = self.application.settings["context"]
        return context

    @property
    def _stream(self) -> IOStream:
        connection: Any = self.request.connection
        stream: IOStream = connection.stream
        return stream

    def set_default_headers(self) -> None:
        """Set the headers of every answer."""
        self.set_header("Server", f"slabmon/{__version__}")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Cache-Control", "no-store")
        for name, value in self.context.access.headers.items():
            self.set_header(name, value)

    async def prepare(self) -> None:
        """Refuse clients that may not ask, those of the unix socket always may; then parameters
        that mean nothing."""
        self.client = self.context.connections.request(self._stream)
        if self.client != LOCAL and not self.PUBLIC:
            refusal = await self.context.access.refusal(self.request, self.client)
            if refusal:
                for name, value in refusal.headers:
                    self.set_header(name, value)
                self.problem(refusal.status, refusal.reason)
                return
        if self.PARAMETERS is not None:
            given = self.request.query_arguments
            unknown = next((name for name in given if name not in self.PARAMETERS), None)
            if unknown is not None:
                known = ", ".join(sorted(self.PARAMETERS)) or "none"
                name = ascii(unknown[:_SHOWN_CHARACTERS])
                self.problem(400, f"unknown parameter {name}: expected {known}")

    def on_finish(self) -> None:
        """Tell the connection that its answer was handed over."""
        self.context.connections.answered(self._stream)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with the reason, and no details of an internal error."""
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.SUPPORTED_METHODS))
        if status_code == 503:
            self.set_header("Retry-After", "1")
        self.problem(status_code, self._reason)

    def problem(self, status: int, reason: str) -> None:
        """Answer with an error in one line of text."""
        self.set_status(status, reason)
        self.set_header("Content-Type", TEXT)
        self.finish(f"{status} {reason}\n")

    async def head(self, *path: str) -> None:
        """Answer as get() does; Tornado leaves the body out."""
        await self.get(*path)

    async def get(self, *_: str) -> None:
        """Answer with 404: no route leads here."""
        self.send_error(404)

    async def fresh(self, detailed: bool = False) -> Reading:
        """Return the present reading. Raises HTTPError 503 if there is only an old one: a program
        would not notice."""
        now = await self.context.source.now(detailed)
        if now.problem or now.reading is None:
            raise HTTPError(503, reason=now.problem)
        return now.reading

    async def in_turn(self, make: Callable[[], Body]) -> Body:
        """Make a body when it is this client's turn (DutyCycle), and compress it if the client
        accepts gzip. Raises HTTPError 503 if too many requests wait."""
        try:
            return await self.context.duty_cycle.take(make, self.client, finish=self.compress)
        except TimeoutError:
            raise HTTPError(503, reason="too many concurrent requests") from None

    def compress(self, body: Body) -> None:
        """Compress a body now if send() will need it compressed."""
        if self._takes_gzip and body.compressible:
            body.compress()

    @property
    def _takes_gzip(self) -> bool:
        return _accepts_gzip(self.request.headers.get("Accept-Encoding", ""))

    async def send(self, body: Body) -> None:
        """Answer with a body, as gzip if the client accepts it; 304 if it has the body already."""
        self.set_header("Content-Type", body.content_type)
        self.set_header("Cache-Control", "private, no-cache")
        self.set_header("Vary", "Accept, Accept-Encoding")
        self.set_header("Etag", body.etag)
        if self.check_etag_header():
            self.set_status(304)
            self.finish()
            return
        data = body.data
        if self._takes_gzip and body.compressible:
            self.set_header("Content-Encoding", "gzip")
            data = body.compressed
        self.context.connections.make_room(self._stream, len(data))
        self.finish(data)

    def compute_etag(self) -> None:
        """Return nothing: send() sets the body's own entity tag."""


def _accepts_gzip(accepted: str) -> bool:
    """Return whether an Accept-Encoding header accepts gzip (RFC 9110, 12.5.3)."""
    for coding in accepted.lower().split(","):
        name, _, parameters = coding.partition(";")
        if name.strip() in ("gzip", "*"):
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
