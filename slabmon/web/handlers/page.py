# SPDX-License-Identifier: Apache-2.0
"""The live page at `/`: its files, and the data it fetches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tornado.web import HTTPError

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.export.text import rows_to_json, to_csv
from slabmon.web.feeds.live import PageMoment
from slabmon.web.handlers import page_json
from slabmon.web.handlers.base import TEXT, Handler
from slabmon.web.handlers.bodies import Body
from slabmon.web.handlers.past import PastHandler
from slabmon.web.handlers.query import QUERY_PARAMETERS, TableQuery, parse_key

# Nothing from other hosts, nothing inline, and no text is parsed as markup.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_FORMATS = {"csv": ("text/csv; charset=utf-8", to_csv), "json": ("application/json", rows_to_json)}
# mimetypes would keep its tables of all types in memory.
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_files() -> Mapping[str, Body]:
    """Return the page's files by name."""
    files = (Path(__file__).parents[1] / "static").iterdir()
    return {path.name: Body(_MEDIA_TYPES[path.suffix], path.read_bytes()) for path in files}


class FileHandler(Handler):
    """The page itself, and the scripts, styles and icons it loads."""

    async def get(self, *names: str) -> None:
        """Answer with a file; without a name, the page."""
        body = self.context.files.get(names[0] if names else "index.html")
        if body is None:
            self.send_error(404)
            return
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Referrer-Policy", "no-referrer")
        await self.send(body)


class PageDataHandler(PastHandler):
    """Base of the page's data: of the present, of a moment held for a paused page, or of the
    past. An error is one line of text."""

    PARAMETERS = frozenset({"at", *QUERY_PARAMETERS})

    async def get(self, *groups: str) -> None:
        """Answer with body(); 400 if the query makes no sense."""
        try:
            body = await self.in_turn(await self.work(*groups))
        except UsageError as error:
            self.set_status(400)
            self.set_header("Content-Type", TEXT)
            self.finish(f"{error}\n")
            return
        await self.send(body)

    async def work(self, *groups: str) -> Callable[[], Body]:
        """Parse the query, wait for the moment it is about, and return what makes the answer.
        Both raise UsageError."""
        raise NotImplementedError

    async def moment(self, query: TableQuery) -> PageMoment:
        """Return the moment that `at` names. Raises HTTPError 404 or 503 if there is none."""
        context, at = self.context, self.at()
        if at is None:
            present = await context.live.moment(context.source)
            if isinstance(present, str):
                raise HTTPError(503, reason=present)
            return present
        held = context.live.held(at)
        if held is not None:
            return held
        judged = query.target_view().judged
        window = context.past_views.window(context.past, at, judged, client=self.client)
        return PageMoment(await self.recalled(window), 0.0)

    @property
    def span(self) -> tuple[float, float] | None:
        """Unix times of the first and last snapshot of the history, None without one."""
        try:
            return self.context.past.span()
        except SlabmonError:
            return None

    def query(self) -> TableQuery:
        """Parse the query string. Raises UsageError."""
        return TableQuery.parse(
            lambda name, default: self.get_query_argument(name, default, strip=False)
        )


class ViewsHandler(Handler):
    """The list of views."""

    PARAMETERS = frozenset()

    async def get(self, *_: str) -> None:
        """Answer with what does not change while the daemon runs."""
        document = page_json.views(self.context.settings.telemetry_path[1:])
        await self.send(Body("application/json", page_json.encoded(document)))


class TableHandler(PageDataHandler):
    """A table as the page shows it, and the header's facts."""

    async def work(self, *_: str) -> Callable[[], Body]:
        """Answer with the rows that the query selects. Without a census, views of it request one,
        and do not wait for it."""
        query = self.query()
        moment = await self.moment(query)
        present = self.at() is None
        if present and query.target_view().census and moment.window.snapshot.census is None:
            with suppress(UsageError):  # a recording that holds none
                await self.context.censuses.census(math.inf)

        def rows() -> Body:
            document = page_json.table(query, moment, self.span)
            return Body("application/json", page_json.encoded(document))

        return rows


class ExportHandler(PageDataHandler):
    """All rows that match, with all columns and exact values, as CSV or JSON."""

    async def work(self, *groups: str) -> Callable[[], Body]:
        """Answer with the file to download."""
        media_type, write = _FORMATS[groups[0]]
        query = self.query()
        moment = await self.moment(query)

        def export() -> Body:
            table = query.table(moment.window)
            name = f"slabmon-{query.view}.{groups[0]}"  # the name of a view: nothing to escape
            self.set_header("Content-Disposition", f'attachment; filename="{name}"')
            return Body(media_type, write(table, query.order(table)).encode())

        return export


class ChartHandler(PageDataHandler):
    """The last hour, or the hour around a past moment, of the row with `key`; without a key, of
    the sum of all rows of the view."""

    PARAMETERS = PageDataHandler.PARAMETERS | {"key"}

    async def work(self, *_: str) -> Callable[[], Body]:
        """Answer with the chart's lines."""
        given = self.get_query_argument("key", "", strip=False)
        view, key = self.query().target_view(), parse_key(given) if given else None
        context, at = self.context, self.at()
        hour = context.live.hour
        if at is not None and context.live.held(at) is None:
            hour = await self.recalled(
                context.past_views.hour(context.past, at, client=self.client)
            )
        return lambda: Body("application/json", page_json.encoded(page_json.chart(view, key, hour)))
