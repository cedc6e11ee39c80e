# SPDX-License-Identifier: Apache-2.0
"""The live page at `/`: its files, and what it fetches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tornado.web import HTTPError

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.export.text import rows_to_json, to_csv
from slabmon.web.feeds.live import Moment
from slabmon.web.handlers import page_json
from slabmon.web.handlers.base import TEXT, Handler
from slabmon.web.handlers.bodies import Body
from slabmon.web.handlers.past import PastHandler
from slabmon.web.handlers.query import Asked, parse_key

# Nothing from elsewhere, nothing inline, and no text that becomes markup.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_FORMATS = {"csv": ("text/csv; charset=utf-8", to_csv), "json": ("application/json", rows_to_json)}


# Not from mimetypes, whose tables of the whole world stay in memory.
_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_files() -> Mapping[str, Body]:
    """The page's files by name."""
    files = (Path(__file__).parents[1] / "static").iterdir()
    return {path.name: Body(_KINDS[path.suffix], path.read_bytes()) for path in files}


class File(Handler):
    """The page, or a file it is made of."""

    async def get(self, *names: str) -> None:
        body = self.context.files.get(names[0] if names else "index.html")
        if body is None:
            self.send_error(404)
            return
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Referrer-Policy", "no-referrer")
        await self.send(body)


class Data(PastHandler):
    """What the page fetches: of the present, of a moment that it holds, or of one of the past.
    An error is one line of text."""

    async def get(self, *rest: str) -> None:
        try:
            body = await self.body(*rest)
        except UsageError as error:
            self.set_status(400)
            self.set_header("Content-Type", TEXT)
            self.finish(f"{error}\n")
            return
        await self.send(body)

    async def body(self, *rest: str) -> Body:
        """The answer. Raises UsageError."""
        raise NotImplementedError

    async def moment(self, asked: Asked) -> Moment:
        """What is to be shown."""
        context, at = self.context, self.at()
        if at is None:
            present = await context.live.moment(context.source)
            if isinstance(present, str):
                raise HTTPError(503, reason=present)
            return present
        held = context.live.held(at)
        if held is not None:
            return held
        window = context.back.window(context.past, at, asked.found().judged)
        return Moment(await self.recalled(window), 0.0)

    @property
    def span(self) -> tuple[float, float] | None:
        """From when to when there is a past."""
        try:
            return self.context.past.span()
        except SlabmonError:
            return None

    def asked(self) -> Asked:
        """What the query asks to be shown."""
        return Asked.parse(lambda name, plain: self.get_query_argument(name, plain, strip=False))


class Views(Handler):
    """The views there are."""

    async def get(self, *_: str) -> None:
        document = page_json.views(self.context.settings.telemetry_path[1:])
        await self.send(Body("application/json", page_json.encoded(document)))


class Rows(Data):
    """A table as the page shows it, and the header."""

    async def body(self, *_: str) -> Body:
        asked = self.asked()
        found = page_json.table(asked, await self.moment(asked), self.span)
        return Body("application/json", page_json.encoded(found))


class Export(Data):
    """All rows that match, with all columns and exact values."""

    async def body(self, *rest: str) -> Body:
        kind, write = _FORMATS[rest[0]]
        asked = self.asked()
        table = asked.table((await self.moment(asked)).window)
        name = f"slabmon-{asked.view}.{rest[0]}"  # a known view's name: nothing to escape
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        return Body(kind, write(table, asked.order(table)).encode())


class Chart(Data):
    """The last hour, or that around a moment of the past, of a row, or without a key of all rows
    of the view."""

    async def body(self, *_: str) -> Body:
        given = self.get_query_argument("key", "", strip=False)
        view, key = self.asked().found(), parse_key(given) if given else None
        context, at = self.context, self.at()
        hour = context.live.hour
        if at is not None and context.live.held(at) is None:
            hour = await self.recalled(context.back.hour(context.past, at))
        return Body("application/json", page_json.encoded(page_json.chart(view, key, hour)))


ROUTES: list[tuple[str, type[Handler]]] = [
    ("/", File),
    (r"/static/([a-z.]+)", File),
    ("/api/v1/views", Views),
    ("/api/v1/table", Rows),
    (r"/api/v1/table\.(csv|json)", Export),
    ("/api/v1/chart", Chart),
]
