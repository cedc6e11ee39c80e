# SPDX-License-Identifier: Apache-2.0
"""What clients of the page can make the server compute, or keep for them, delays no scrape."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from tornado.web import RequestHandler

from slabmon.store.recording import LONGEST_CHAIN
from slabmon.store.settings import HistorySettings
from slabmon.store.writer import RecordingWriter
from slabmon.web.app import routes
from slabmon.web.feeds.history_writer import HistoryWriter
from slabmon.web.feeds.readings import CensusNow
from slabmon.web.settings import WebSettings
from tests.support import censuses
from tests.support.routes import ROUTES, paths
from tests.support.scheduling import waiting
from tests.support.serving import run, serving
from tests.support.snapshots import synthetic

CONNECTIONS = 100
SCRAPES, ROUNDS = 5, 9
# The promise (docs/security.md): the time of a scrape, without that in which server or scraper were
# ready to run but the machine ran others. Without limits these attacks delayed scrapes by 4 s
# (links) to more than 40 s (most others).
SECONDS = 1.0

Request = tuple[str, dict[str, str]]
GZIP = {"Accept-Encoding": "gzip"}
ENCODED = {"Accept": "application/vnd.slabmon.snapshot", **GZIP}


def ask(path: str, /, **query: str) -> Request:
    """Return a request with these parameters."""
    return path + "?" + "&".join(f"{k}={quote(v, safe='{}')}" for k, v in query.items()), GZIP


def table(**query: str) -> Request:
    """Return a question of the page."""
    return ask("/api/v1/table", **query)


ATTACKS: dict[str, list[Request]] = {
    "expressions that backtrack": [
        table(view=view, filter=text)
        for view in ("sites", "caches", "cgroups")
        for text in ("/(.*)*(.*)*(.*)*x$/", "/(.|.)+!$/", "/(a?){30}a{30}$/", "/(.*.*)*{n}/")
    ],
    "many terms": [table(view="sites", filter="_ " * 249)],
    "filters of 15,000 characters": [table(view="sites", filter="/./ " * 3_700)],
    "filters of sampled columns": [table(view="processes", filter="live > {n} growth > 0")],
    "all columns of 1,000 rows": [
        table(view=view, columns="all", limit="1000", sort=sort, offset="{n}")
        for view in ("sites", "devices", "caches")
        for sort in ("name", "")
    ],
    "links followed": [
        table(view="caches", path=json.dumps([["sites", ["cache-{n}"]]])),
        table(view="sites", path=json.dumps([["stacks", ["function_1", 1, None]]] * 8)),
        table(path=json.dumps([["sites", [[[["x"] * 100] * 10]]]])),
    ],
    "exports": [
        ask(f"/api/v1/table.{kind}", view=view)
        for kind in ("csv", "json")
        for view in ("sites", "devices", "processes")
    ],
    "charts": [ask("/api/v1/chart", view=view, key='"{n}"') for view in ("caches", "sites")],
    "snapshots": [("/api/v1/snapshot", GZIP), ("/api/v1/snapshot", ENCODED)],
    "formats of metrics": [
        ("/metrics", {"Accept": "application/openmetrics-text; version=1.0.{n}", **GZIP}),
        ("/metrics", {"Accept": "application/openmetrics-text; version=2.0.{n}", **GZIP}),
        ("/metrics", {"Accept": "text/plain; version=1.{n}.0; escaping=values", **GZIP}),
    ],
    "leaks": [ask("/api/v1/leaks", share="0.{n}1")],
    "snapshots of the past": [
        (path, headers)
        for path in ("/api/v1/snapshot?at=-{n}s", "/api/v1/snapshot?at=-{n}0s")
        for headers in (GZIP, ENCODED)
    ],
    "tables of the past": [
        table(view=view, at="-{n}s") for view in ("sites", "verdicts", "processes")
    ],
    "charts of the past": [ask("/api/v1/chart", view="sites", at="-{n}m")],
    "leaks of the past": [ask("/api/v1/leaks", at="-{n}s")],
    "profiles of the past": [ask("/debug/pprof/heap", at="-{n}s")],
    "censuses": [("/api/v1/census", GZIP), ask("/api/v1/census", max_age="0.{n}")],
    "ranges": [("/api/v1/history?from=0&to=9e99&most=1000", GZIP)],
    "files and nothing": [("/static/page.js", GZIP), ("/none{n}", {}), ("/api/v1/views", {})],
}
# Given to each parameter of each route, whatever it is for.
VALUES = [
    "/(.*)*(.*)*(.*)*x$/",
    "_ " * 249,
    "{n}",
    "-{n}s",
    "0.{n}",
    "9" * 4000,
    "1e308",
    "nan",
    "[" * 2000,
    json.dumps([["sites", [[[["x"] * 100] * 10]]]]),
    '{"a":' * 800,
    "sites",
    "all",
    "%F0%9F%92%A3" * 900,
    "",
]


@cache
def parameters() -> dict[str, list[str]]:
    """Return the names of the parameters that the handler of each path asks for."""
    asked: defaultdict[str, list[str]] = defaultdict(list)
    original = RequestHandler.get_query_argument

    def spy(self: RequestHandler, name: str, *arguments: object, **options: object) -> object:
        if name not in asked[self.request.path]:
            asked[self.request.path].append(name)
        return original(self, name, *arguments, **options)  # type: ignore[call-overload]  # as given

    class Censuses:
        async def census(self, max_age: float) -> CensusNow:
            return CensusNow(censuses.large(10, 10, 10), 1)

    async def ask_all() -> None:
        async with serving() as server:
            server.context.censuses = Censuses()
            server.context.past = HistoryWriter(HistorySettings(), server.source)
            client = await server.connect()
            for pattern in ROUTES:
                for path in paths(pattern):
                    assert (await client.ask(path)).status != 500, path
            client.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RequestHandler, "get_query_argument", spy)
        run(ask_all)
    return dict(asked)


def generic(pattern: str) -> list[Request]:
    """Return requests of a route with each value for each of its parameters."""
    return [
        request
        for path in paths(pattern)
        for request in [
            (path, GZIP),
            *(ask(path, **{name: text}) for name in parameters().get(path, ()) for text in VALUES),
        ]
    ]


@dataclass(frozen=True)
class Server:
    """A server process."""

    port: int
    pid: int

    def waiting(self) -> float:
        """Return for how many seconds the process has been ready to run without a CPU."""
        return waiting(f"{self.pid}/task/{self.pid}")


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of the host's last hour, each snapshot of which builds on all before."""
    path = tmp_path_factory.mktemp("past") / "slabs.db"
    host, count, step = synthetic(), 90, 40.0
    begin = time.time() - count * step
    assert count < LONGEST_CHAIN
    with RecordingWriter(path, durable=False) as writer, pytest.MonkeyPatch.context() as patch:
        patch.setattr("slabmon.store.writer.CHAIN", LONGEST_CHAIN)
        for number in range(count):
            tracking = replace(host.tracking, since=begin, seconds=number * step)
            writer.append(replace(host, tracking=tracking), begin + number * step)
    return path


@pytest.fixture(scope="module")
def server(past: Path) -> Iterator[Server]:
    """A server over a host with 10,000 call sites and 100,000 tracked objects, with a past."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.page.server", "large", "0", str(past)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        running = Server(int(process.stdout.readline()), process.pid)
        for _ in range(2):
            scrape(running)
        yield running
        process.kill()


@contextmanager
def attacked(
    server: Server, requests: list[Request], connections: int, reads: bool, clients: int = 1
) -> Iterator[None]:
    arguments = map(str, (server.port, connections, +reads, clients))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.attackers", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(requests))
        process.stdin.close()
        assert process.stdout.readline()
        time.sleep(0.5)
        try:
            yield
            assert process.poll() is None, "it went on"
        finally:
            process.kill()


def scrape(server: Server, path: str = "/metrics") -> float:
    """Return how many seconds an honest client waits for a good answer, without those in which the
    machine was busy with others."""
    begin, others = time.monotonic(), server.waiting() + waiting("thread-self")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    assert answer.status == 200, body
    elapsed = time.monotonic() - begin
    return elapsed - (server.waiting() + waiting("thread-self") - others)


def answered(server: Server, path: str) -> bool:
    """Return whether an honest client of the page is answered, and not told to come again."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    finally:
        connection.close()
    assert status in (200, 503)
    return status == 200


def check_scrapes(server: Server) -> None:
    """Assert the promise for all scrapes of one of ROUNDS rounds: other programs slow the server
    down by more than they make it wait, through the caches and the core that they share with it,
    but not all the time. Each scrape of each round must be answered."""
    for _ in range(ROUNDS):
        times = []
        for _ in range(SCRAPES):
            times.append(scrape(server))
            time.sleep(0.1)
        times.append(scrape(server, "/healthz"))
        print("seconds:", " ".join(f"{seconds:.3f}" for seconds in times))
        if max(times) < SECONDS:
            return
    raise AssertionError(f"expected less than {SECONDS} s, got {times}")


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_to_compute_delays_scrapes(server: Server, attack: str) -> None:
    with attacked(server, ATTACKS[attack], CONNECTIONS, reads=True):
        check_scrapes(server)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ROUTES)
def test_no_parameter_of_a_route_delays_scrapes(server: Server, pattern: str) -> None:
    with attacked(server, generic(pattern), CONNECTIONS, reads=True):
        check_scrapes(server)


@pytest.mark.slow
def test_attackers_at_many_addresses_delay_no_scrapes(server: Server) -> None:
    requests = [request for attack in ATTACKS.values() for request in attack]
    with attacked(server, requests, CONNECTIONS, reads=True, clients=CONNECTIONS):
        check_scrapes(server)


@pytest.mark.slow
def test_another_page_is_answered_meanwhile(server: Server) -> None:
    with attacked(server, ATTACKS["expressions that backtrack"], CONNECTIONS, reads=True):
        assert any(answered(server, "/api/v1/table?view=sites&filter=_7") for _ in range(5))


@pytest.mark.slow
@pytest.mark.parametrize("clients", [1, 300])
def test_answers_that_nobody_takes_refuse_no_scrape(server: Server, clients: int) -> None:
    requests = [
        table(view="sites", columns="all", limit="1000"),
        ("/api/v1/snapshot", {}),
        ("/metrics", {}),
    ]
    with attacked(server, requests, 300, reads=False, clients=clients):
        for _ in range(3):
            check_scrapes(server)


@pytest.mark.parametrize("pattern", ROUTES)
def test_each_route_is_attacked(pattern: str) -> None:
    assert all(re.fullmatch(pattern, path) for path in paths(pattern)), (
        "add its paths to tests/support/routes.py"
    )


def test_each_parameter_that_a_handler_asks_for_is_one_of_its_parameters() -> None:
    for pattern, handler in routes(WebSettings()):
        known = handler.PARAMETERS
        for path in paths(pattern) if known is not None else ():
            assert set(parameters().get(path, ())) == set(known or ()), path


def test_each_parameter_is_known() -> None:
    """The generic attacks reach the parameters that the specific ones are about."""
    named = {
        (urlsplit(path).path, name)
        for attack in ATTACKS.values()
        for path, _ in attack
        for name, _ in parse_qsl(urlsplit(path).query, keep_blank_values=True)
    }
    known = {(path, name) for path, names in parameters().items() for name in names}
    assert named <= known
