# SPDX-License-Identifier: Apache-2.0
"""The HTTP side, over a fake tracker."""

from __future__ import annotations

import json
import re

import pytest
from tornado.httpclient import HTTPResponse
from tornado.testing import AsyncHTTPTestCase
from tornado.web import Application

from slabmon import __version__
from slabmon.base.clock import boottime
from slabmon.base.errors import UsageError
from slabmon.store.codec import CONTENT_TYPE, decode
from slabmon.store.settings import HistorySettings
from slabmon.views import window_past
from slabmon.views.catalogue import VIEWS
from slabmon.web.app import make_app
from slabmon.web.feeds.history_writer import HistoryWriter
from slabmon.web.feeds.readings import Now, Reading
from slabmon.web.handlers.base import Context
from slabmon.web.handlers.page import page_files
from slabmon.web.serving.access import Access
from slabmon.web.serving.config import WebConfig
from slabmon.web.settings import WebSettings
from tests.support.builders import cache, snapshot
from tests.support.paths import ROOT
from tests.support.scraping import parse_openmetrics, parse_text
from tests.support.serving import FakeSource
from tests.support.terminal import host

OPENMETRICS = "application/openmetrics-text"


class WebTest(AsyncHTTPTestCase):
    """A server on a free port of the loopback."""

    settings = WebSettings()
    config = WebConfig()

    def get_app(self) -> Application:
        self.source = FakeSource()
        context = Context(self.settings, Access(self.config), page_files())
        context.source = context.censuses = self.source
        context.past = HistoryWriter(HistorySettings(), self.source)
        return make_app(context)

    def get(self, path: str, **headers: str) -> HTTPResponse:
        return self.fetch(path, headers=headers)


class Metrics(WebTest):
    def test_prometheus_text_by_default(self) -> None:
        answer = self.get("/metrics")
        assert answer.code == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        names = {family.name for family in parse_text(answer.body.decode())}
        assert "slabmon_cache_allocations" in names

    def test_openmetrics_when_preferred(self) -> None:
        answer = self.get("/metrics", Accept=f"{OPENMETRICS}; version=1.0.0, text/plain;q=0.5")
        assert answer.headers["Content-Type"].startswith(OPENMETRICS)
        assert answer.body.endswith(b"# EOF\n")
        names = {family.name for family in parse_openmetrics(answer.body.decode())}
        assert "slabmon_cache_allocations" in names

    def test_start_times_and_native_histograms_are_negotiated(self) -> None:
        for accept, samples, inline in (
            ("text/plain", False, False),
            (f"{OPENMETRICS}; version=1.0.0", True, False),
            (f"{OPENMETRICS}; version=2.0.0", False, True),
        ):
            body = self.get("/metrics", Accept=accept).body
            assert (b"slabmon_gfp_allocations_created" in body) == samples
            assert (b"schema:0" in body) == (b" st@" in body) == inline

    def test_any_other_accept_gets_text(self) -> None:
        for accept in ("*/*", "text/html", "", "nonsense;;;q=x"):
            answer = self.get("/metrics", Accept=accept)
            assert answer.code == 200
            assert answer.headers["Content-Type"].startswith("text/plain")

    def test_an_old_reading_is_shown_as_one(self) -> None:
        assert b"slabmon_up 1.0" in self.get("/metrics").body
        self.source.problem = "no reading within 1 s"
        answer = self.get("/metrics")
        assert answer.code == 200
        assert b"slabmon_up 0.0" in answer.body
        assert b"slabmon_cache_live_bytes" in answer.body
        assert b"slabmon_snapshot_age_seconds" in answer.body

    def test_without_any_reading_there_are_metrics_that_say_so(self) -> None:
        self.source.problem = "the collector is gone"
        answer = self.get("/metrics")
        assert answer.code == 200
        assert b"slabmon_up 0.0" in answer.body
        assert b"slabmon_cache_live_bytes" not in answer.body


class Elsewhere(WebTest):
    settings = WebSettings(telemetry_path="/a.b/metrics")

    def test_metrics_can_be_anywhere(self) -> None:
        assert b"slabmon_up" in self.get("/a.b/metrics").body
        assert self.get("/metrics").code == 404
        assert self.get("/axb/metrics").code == 404
        assert json.loads(self.get("/api/v1/views").body)["metrics"] == "a.b/metrics"


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/api/v1/leaks", "/api/v1/table.csv", "/static/page.js"]
)
def test_metrics_take_no_other_path(path: str) -> None:
    with pytest.raises(UsageError, match="telemetry_path"):
        WebSettings(telemetry_path=path)


class Json(WebTest):
    def test_the_snapshot_is_served_as_json(self) -> None:
        answer = self.get("/api/v1/snapshot")
        assert answer.code == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        document = json.loads(answer.body)
        assert document["schema"] == 1
        assert [row["name"] for row in document["caches"]] == ["kmalloc-64", "kmalloc-large"]

    def test_other_slabmons_get_it_encoded(self) -> None:
        answer = self.get("/api/v1/snapshot", Accept=CONTENT_TYPE)
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        assert decode(answer.body).caches == self.source.now_is.caches
        assert self.source.last
        assert self.source.last.detailed


class PastOfTheWindow(WebTest):
    def test_it_is_that_of_the_page(self) -> None:
        live = self._app.settings["context"].live
        for second in (10.0, 20.0, 30.0):
            live._take(Now(Reading(1, boottime(), 0.0, True, host(second)), None))
        answer = self.get("/api/v1/window")
        assert answer.headers["Content-Type"] == window_past.CONTENT_TYPE
        past = window_past.decode(answer.body)
        assert past.moments == (10.0, 20.0)
        assert {"caches", "held", "memory"} <= set(past.trails)

    def test_there_may_be_none_yet(self) -> None:
        self.source.problem = "no reading within 1 s"
        answer = self.get("/api/v1/window")
        assert (answer.code, answer.reason) == (503, "no reading within 1 s")


class Health(WebTest):
    def test_healthy_and_ready(self) -> None:
        assert (self.get("/healthz").code, self.get("/healthz").body) == (200, b"ok\n")
        assert (self.get("/readyz").code, self.get("/readyz").body) == (200, b"ready\n")

    def test_not_ready_while_the_tables_cannot_be_read(self) -> None:
        self.source.problem = "the tables cannot be read"
        answer = self.get("/readyz")
        assert (answer.code, answer.body) == (503, b"503 the tables cannot be read\n")
        assert self.get("/healthz").code == 200, "the process itself is alive"

    def test_programs_get_no_old_reading(self) -> None:
        self.get("/api/v1/snapshot")
        self.source.problem = "the tables cannot be read"
        answer = self.get("/api/v1/snapshot")
        assert answer.code == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.headers["Cache-Control"] == "no-store"

    def test_an_internal_error_tells_no_details(self) -> None:
        self.source.now_is = None  # type: ignore[assignment]
        with self.assertLogs("tornado.application", "ERROR"):
            answer = self.get("/api/v1/snapshot")
        assert (answer.code, answer.body) == (500, b"500 Internal Server Error\n")


class Routes(WebTest):
    PATHS = (
        "/metrics",
        "/api/v1/snapshot",
        "/healthz",
        "/readyz",
        "/api/v1/views",
        "/api/v1/window",
        "/api/v1/table",
        "/api/v1/table.csv",
        "/api/v1/table.json",
        "/api/v1/chart",
    )
    PAGE = ("/", "/static/page.js", "/static/page.css", "/static/icon.svg")

    def test_other_paths_are_not_found(self) -> None:
        for path in (
            "/absent",
            "/metrics/",
            "/api/v1",
            "/../etc/passwd",
            "/static/x",
            "/static/../page.js",
            "/static/index.htm",
            "/static/",
            "//",
        ):
            answer = self.get(path)
            assert answer.code == 404, path
            assert answer.body == b"404 Not Found\n"

    def test_nothing_can_be_written(self) -> None:
        for path in (*self.PATHS, *self.PAGE, "/absent"):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                body = None if method == "DELETE" else ""
                answer = self.fetch(path, method=method, body=body)
                assert answer.code == 405, (method, path)
                assert answer.headers["Allow"] == "GET, HEAD"
        assert self.source.taken == 0

    def test_head_has_the_headers_without_the_body(self) -> None:
        for path in (*self.PATHS, *self.PAGE):
            answer = self.fetch(path, method="HEAD")
            assert answer.code == 200, path
            assert answer.body == b""

    def test_every_answer_forbids_scripts_and_guessing(self) -> None:
        for path in (*self.PATHS, "/absent"):
            headers = self.get(path).headers
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "script-src" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] in ("no-store", "private, no-cache")
            assert headers["Server"] == f"slabmon/{__version__}"

    def test_a_query_does_not_matter(self) -> None:
        assert self.get("/healthz?x=<script>").body == b"ok\n"

    def test_answers_are_compressed_for_those_who_ask(self) -> None:
        self.source.now_is = snapshot(caches=tuple(cache(f"c{i}") for i in range(100)))
        answer = self.fetch(
            "/api/v1/snapshot", headers={"Accept-Encoding": "gzip"}, decompress_response=False
        )
        assert answer.headers["Content-Encoding"] == "gzip"
        assert len(answer.body) < 5_000
        plain = self.fetch("/api/v1/snapshot", headers={"Accept-Encoding": "gzip;q=0, br"})
        assert "Content-Encoding" not in plain.headers

    def test_what_has_not_changed_is_not_sent_again(self) -> None:
        answer = self.get("/api/v1/snapshot")
        again = self.get("/api/v1/snapshot", **{"If-None-Match": answer.headers["Etag"]})
        assert (again.code, again.body) == (304, b"")
        self.source.now_is = snapshot(caches=(cache("new"),))
        assert self.get("/api/v1/snapshot", **{"If-None-Match": answer.headers["Etag"]}).code == 200


class Page(WebTest):
    def test_it_runs_its_own_scripts_and_nothing_else(self) -> None:
        for path in Routes.PAGE:
            policy = self.get(path).headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self'" in policy
            assert "unsafe" not in policy
            assert "require-trusted-types-for 'script'" in policy

    def test_its_files_have_types_and_are_sent_once(self) -> None:
        types = (
            "text/html; charset=utf-8",
            "text/javascript; charset=utf-8",
            "text/css; charset=utf-8",
            "image/svg+xml",
        )
        for path, kind in zip(Routes.PAGE, types, strict=True):
            answer = self.get(path)
            assert answer.headers["Content-Type"] == kind
            again = self.get(path, **{"If-None-Match": answer.headers["Etag"]})
            assert (again.code, again.body) == (304, b"")

    def test_it_asks_nobody_else(self) -> None:
        for path in (ROOT / "slabmon/web/static").iterdir():
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?:|//[a-z]+[.]|innerHTML|outerHTML|document[.]write", text)
            assert "eval(" not in text

    def test_an_old_reading_is_told_of(self) -> None:
        assert json.loads(self.get("/api/v1/table").body)["problem"] == ""
        self.source.problem = "the tables cannot be read"
        self.app_moment_is_old()
        found = json.loads(self.get("/api/v1/table").body)
        assert found["problem"] == "the tables cannot be read"
        assert len(found["rows"]) == 2, "the last ones"

    def test_without_any_reading_there_is_no_table(self) -> None:
        self.source.problem = "the tables cannot be read"
        answer = self.get("/api/v1/table")
        assert (answer.code, answer.body) == (503, b"503 the tables cannot be read\n")

    def test_an_empty_snapshot_is_shown_too(self) -> None:
        self.source.now_is = snapshot(
            caches=(),
            sites=(),
            devices=(),
            gfp=(),
            sizes=(),
            nodes=(),
            pages=(),
            programs=(),
            losses={},
            features={},
        )
        for view in VIEWS:
            for path in ("table", "table.csv", "table.json", "chart"):
                answer = self.get(f"/api/v1/{path}?view={view}&columns=all")
                assert answer.code == 200, (view, path)
        assert self.get("/metrics").code == 200

    def test_questions_that_make_no_sense_are_refused(self) -> None:
        for query, problem in (
            ("view=x", "unknown view 'x'"),
            ("sort=x", "unknown column 'x'"),
            ("filter=live+%3E", "a value is missing"),
            ("limit=x", "offset and limit"),
            ("columns=foo", "columns must be all"),
            ("inverted=yes", "inverted must be 1 or 0"),
            ("colour=red", "unknown parameter 'colour': expected at, columns, filter, inverted,"),
            ("%0d%0a%ff=1", "unknown parameter '\\r\\n"),
            ("limit=1001", "1 to 1000"),
            ("offset=-1", "0 or more"),
            ("path=x", "in JSON"),
            ('path=[["x",[]]]', "no link 'x'"),
            ('path=[["sites",[]]]', "no link 'sites'"),
            ('path=[["sites",[{}]]]', "in JSON"),
            ("path=" + "[" * 4000, "in JSON"),
            ("path=" + "[" * 5000, "path at most 4096"),
            ("filter=" + "x" * 501, "filter at most 500"),
            ("path=[" + ",".join(['["sites",["a"]]'] * 9) + "]", "at most 8 links, got 9"),
        ):
            answer = self.get(f"/api/v1/table?{query}")
            assert answer.code == 400, query
            assert problem in answer.body.decode(), query
            assert answer.headers["Content-Type"].startswith("text/plain")
        assert self.get("/api/v1/chart?key=x").code == 400

    def test_a_page_of_rows_of_many(self) -> None:
        self.source.now_is = snapshot(caches=tuple(cache(f"c{i}", allocs=i) for i in range(1000)))
        found = json.loads(self.get("/api/v1/table?sort=allocs&offset=100&limit=3").body)
        assert (found["total"], found["matching"], found["offset"]) == (1000, 1000, 100)
        assert [row["key"] for row in found["rows"]] == ["c899", "c898", "c897"]

    def app_moment_is_old(self) -> None:
        self._app.settings["context"].live._at -= 10
