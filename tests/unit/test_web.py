"""The HTTP side, over a fake tracker."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import cast
from unittest import mock

from tornado.httpclient import HTTPResponse
from tornado.testing import AsyncHTTPTestCase
from tornado.web import Application

from slabmon import __version__
from slabmon.kernel.tracker import Tracker
from slabmon.model import FeatureState, Snapshot
from slabmon.service import Service
from slabmon.web.app import make_app
from tests.unit.builders import cache, device, site, snapshot
from tests.unit.scraping import parse_openmetrics, parse_text

EVIL = "<script>alert(1)</script>\"'&<img src=x>"
OPENMETRICS = "application/openmetrics-text"


class FakeTracker:
    """Shows one snapshot; can fail."""

    def __init__(self) -> None:
        self.now = snapshot()
        self.taken = 0
        self.broken = False

    def snapshot(self) -> Snapshot:
        self.taken += 1
        if self.broken:
            raise OSError("tables are gone")
        return self.now


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

    def get_app(self) -> Application:
        self.tracker = FakeTracker()
        self.service = Service(cast(Tracker, self.tracker))
        return make_app(self.service)

    def tearDown(self) -> None:
        super().tearDown()
        self.service.close()

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

    def test_scrapes_that_come_together_share_one_reading(self) -> None:
        with mock.patch("slabmon.service.SHARED_SECONDS", 60):
            for _ in range(3):
                self.get("/metrics")
            self.get("/api/v1/snapshot")
        assert self.tracker.taken == 1

    def test_later_scrapes_read_again(self) -> None:
        with mock.patch("slabmon.service.SHARED_SECONDS", -1):
            self.get("/metrics")
            self.tracker.now = snapshot(caches=(cache("new"),))
            assert b'cache="new"' in self.get("/metrics").body


class Json(WebTest):
    def test_the_snapshot_is_served_as_json(self) -> None:
        answer = self.get("/api/v1/snapshot")
        assert answer.code == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        document = json.loads(answer.body)
        assert document["schema"] == 1
        assert [row["name"] for row in document["caches"]] == ["kmalloc-64", "kmalloc-large"]


class Health(WebTest):
    def test_healthy_and_ready(self) -> None:
        assert (self.get("/healthz").code, self.get("/healthz").body) == (200, b"ok\n")
        assert (self.get("/readyz").code, self.get("/readyz").body) == (200, b"ready\n")

    def test_not_ready_when_the_tables_cannot_be_read(self) -> None:
        self.tracker.broken = True
        with self.assertLogs("tornado.application", "ERROR"):
            answer = self.get("/readyz")
        assert answer.code >= 500
        assert self.get("/healthz").code == 200, "the process itself is alive"

    def test_an_internal_error_tells_no_details(self) -> None:
        self.tracker.broken = True
        with self.assertLogs("tornado.application", "ERROR"):
            answer = self.get("/api/v1/snapshot")
        assert answer.code == 500
        assert b"tables are gone" not in answer.body
        assert b"Traceback" not in answer.body


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
                assert answer.code in (404, 405), (method, path)
        assert self.tracker.taken == 0

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
            assert headers["Cache-Control"] == "no-store"
            assert headers["Server"] == f"slabmon/{__version__}"

    def test_a_query_does_not_matter(self) -> None:
        assert self.get("/healthz?x=<script>").body == b"ok\n"

    def test_answers_are_compressed_for_those_who_ask(self) -> None:
        self.tracker.now = snapshot(caches=tuple(cache(f"c{i}") for i in range(100)))
        answer = self.fetch("/api/v1/snapshot", headers={"Accept-Encoding": "gzip"},
                            decompress_response=False)  # fmt: skip
        assert answer.headers["Content-Encoding"] == "gzip"
        assert len(answer.body) < 5_000


class Person(WebTest):
    def test_the_page_shows_host_and_tables(self) -> None:
        answer = self.get("/")
        assert answer.headers["Content-Type"].startswith("text/html")
        page = Page(answer.body.decode())
        for text in ("6.12.0-test", "x86_64", "kmalloc-64", "0000:00:03.0", "samples_full"):
            assert text in page.text, text
        assert "script" not in page.tags

    def test_names_cannot_inject_markup(self) -> None:
        self.tracker.now = snapshot(
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
        self.tracker.now = snapshot(
            caches=(), sites=(), devices=(), gfp=(), sizes=(), nodes=(), pages=(), programs=(),
            losses={}, features={},
        )  # fmt: skip
        assert self.get("/").code == 200
        assert self.get("/metrics").code == 200

    def test_the_page_does_not_grow_with_the_machine(self) -> None:
        many = range(1000)
        self.tracker.now = snapshot(
            caches=tuple(cache(f"c{i}") for i in many), sites=tuple(site(f"s{i}") for i in many),
            devices=tuple(device(name=f"d{i}") for i in many),
        )  # fmt: skip
        assert Page(self.get("/").body.decode()).tags.count("tr") < 300
