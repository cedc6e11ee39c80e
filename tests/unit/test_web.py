"""The HTTP side, over a fake tracker."""

from __future__ import annotations

import json
from html.parser import HTMLParser

from tornado.httpclient import HTTPResponse
from tornado.testing import AsyncHTTPTestCase
from tornado.web import Application

from slabmon import __version__
from slabmon.model import FeatureState
from slabmon.store.codec import CONTENT_TYPE, decode
from slabmon.web.access import Access
from slabmon.web.app import make_app
from slabmon.web.config import WebConfig
from slabmon.web.handler import Context, page_template
from slabmon.web.settings import WebSettings
from tests.unit.builders import cache, device, site, snapshot
from tests.unit.scraping import parse_openmetrics, parse_text
from tests.unit.serving import FakeSource

EVIL = "<script>alert(1)</script>\"'&<img src=x>"
OPENMETRICS = "application/openmetrics-text"


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


class WebTest(AsyncHTTPTestCase):
    """A server on a free port of the loopback."""

    settings = WebSettings()
    config = WebConfig()

    def get_app(self) -> Application:
        self.source = FakeSource()
        context = Context(self.settings, Access(self.config), page_template())
        context.source = self.source
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
        assert b'href="a.b/metrics"' in self.get("/").body


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

    def test_a_person_is_told_that_the_reading_is_old(self) -> None:
        assert self.get("/").code == 200
        self.source.problem = "the tables <cannot> be read"
        assert "the tables <cannot> be read" in Page(self.get("/").body.decode()).text

    def test_an_internal_error_tells_no_details(self) -> None:
        self.source.now_is = None  # type: ignore[assignment]
        with self.assertLogs("tornado.application", "ERROR"):
            answer = self.get("/api/v1/snapshot")
        assert (answer.code, answer.body) == (500, b"500 Internal Server Error\n")


class Routes(WebTest):
    PATHS = ("/", "/metrics", "/api/v1/snapshot", "/healthz", "/readyz")

    def test_other_paths_are_not_found(self) -> None:
        for path in ("/absent", "/metrics/", "/api/v1", "/../etc/passwd", "/static/x", "//"):
            answer = self.get(path)
            assert answer.code == 404, path
            assert answer.body == b"404 Not Found\n"

    def test_nothing_can_be_written(self) -> None:
        for path in (*self.PATHS, "/absent"):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                body = None if method == "DELETE" else ""
                answer = self.fetch(path, method=method, body=body)
                assert answer.code == 405, (method, path)
                assert answer.headers["Allow"] == "GET, HEAD"
        assert self.source.taken == 0

    def test_head_has_the_headers_without_the_body(self) -> None:
        for path in self.PATHS:
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
        answer = self.fetch("/api/v1/snapshot", headers={"Accept-Encoding": "gzip"},
                            decompress_response=False)  # fmt: skip
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


class Person(WebTest):
    def test_the_page_shows_host_and_tables(self) -> None:
        answer = self.get("/")
        assert answer.headers["Content-Type"].startswith("text/html")
        page = Page(answer.body.decode())
        for text in ("6.12.0-test", "x86_64", "kmalloc-64", "0000:00:03.0", "samples_full"):
            assert text in page.text, text
        assert "script" not in page.tags

    def test_names_cannot_inject_markup(self) -> None:
        self.source.now_is = snapshot(
            caches=(cache(EVIL),), sites=(site(EVIL, 1, EVIL),),
            devices=(device(EVIL, EVIL, driver=EVIL),),
            features={EVIL: FeatureState("off", EVIL)}, losses={EVIL: 1},
        )  # fmt: skip
        answer = self.get("/")
        page = Page(answer.body.decode())
        assert "script" not in page.tags
        assert "img" not in page.tags
        assert page.text.count(EVIL) >= 6, "shown as it is, as text"

    def test_an_empty_snapshot_is_a_page_too(self) -> None:
        self.source.now_is = snapshot(
            caches=(), sites=(), devices=(), gfp=(), sizes=(), nodes=(), pages=(), programs=(),
            losses={}, features={},
        )  # fmt: skip
        assert self.get("/").code == 200
        assert self.get("/metrics").code == 200

    def test_the_page_does_not_grow_with_the_machine(self) -> None:
        many = range(1000)
        self.source.now_is = snapshot(
            caches=tuple(cache(f"c{i}") for i in many), sites=tuple(site(f"s{i}") for i in many),
            devices=tuple(device(name=f"d{i}") for i in many),
        )  # fmt: skip
        assert Page(self.get("/").body.decode()).tags.count("tr") < 300
