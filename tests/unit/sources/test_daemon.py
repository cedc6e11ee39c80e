# SPDX-License-Identifier: Apache-2.0
"""Snapshots from a daemon: over TCP and Unix sockets, and what happens when it misbehaves."""

from __future__ import annotations

import math
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from slabmon.base.errors import DamagedSnapshot, PermissionDenied, SlabmonError, UsageError
from slabmon.export.census import to_json
from slabmon.model import Snapshot
from slabmon.sources.daemon import DaemonSource, NotReady
from slabmon.sources.lookback import readable
from slabmon.store import codec
from slabmon.views import window_past
from tests.support.builders import window_of
from tests.support.snapshots import assert_same, full
from tests.unit.export.test_census import CENSUS

BODY = codec.encode(full())


def later(snapshot: Snapshot) -> Snapshot:
    tracking = replace(snapshot.tracking, seconds=snapshot.tracking.seconds + 10)
    return replace(snapshot, tracking=tracking)


class Daemon(BaseHTTPRequestHandler):
    """Answers as a daemon would, unless a test changes its server's `answers`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Tcp | Unix)
        server.requests.append((self.path, dict(self.headers)))
        status, kind, body, length = server.answers
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if server.taken is not None:
            self.send_header("Slabmon-Time", server.taken)
        if server.retry_after is not None:
            self.send_header("Retry-After", server.retry_after)
        self.send_header("Content-Length", str(length if length is not None else len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = server.one_each or length is not None

    def address_string(self) -> str:
        return "client"  # a Unix socket has none

    def log_message(self, *_: object) -> None:
        pass


class _Server(socketserver.ThreadingMixIn):
    daemon_threads = True
    one_each = False
    taken: str | None = "1699999995.125"
    retry_after: str | None = None

    def begin(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.answers: tuple[int, str, bytes, int | None] = (200, codec.CONTENT_TYPE, BODY, None)


class Tcp(_Server, socketserver.TCPServer):
    pass


class Unix(_Server, socketserver.UnixStreamServer):
    pass


@contextmanager
def running(server: Tcp | Unix) -> Iterator[None]:
    server.begin()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def daemon() -> Iterator[Tcp]:
    server = Tcp(("127.0.0.1", 0), Daemon)
    with running(server):
        yield server


def url(daemon: Tcp) -> str:
    return f"http://127.0.0.1:{daemon.server_address[1]}"


def test_a_snapshot_arrives_as_it_was(daemon: Tcp) -> None:
    with DaemonSource(url(daemon)) as source:
        assert_same(source.snapshot(), full())
    path, headers = daemon.requests[0]
    assert path == "/api/v1/snapshot"
    assert headers["Accept"] == codec.CONTENT_TYPE


def test_paths_of_proxies_come_first(daemon: Tcp) -> None:
    with DaemonSource(f"{url(daemon)}/host-7/") as source:
        source.snapshot(details=True)
    assert daemon.requests[0][0] == "/host-7/api/v1/snapshot"


def test_a_connection_is_kept(daemon: Tcp) -> None:
    with DaemonSource(url(daemon)) as source:
        source.snapshot()
        kept = source._connection.sock
        source.snapshot()
        assert source._connection.sock is kept


def test_a_daemon_that_closed_the_connection_is_asked_again(daemon: Tcp) -> None:
    daemon.one_each = True
    with DaemonSource(url(daemon)) as source:
        for _ in range(3):
            assert_same(source.snapshot(), full())
    assert {path for path, _ in daemon.requests} == {"/api/v1/snapshot"}


def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "slabmon.sock")
    with running(Unix(path, Daemon)):
        for form in (f"unix:{path}", f"unix://{path}"):
            with DaemonSource(form) as source:
                assert_same(source.snapshot(), full())


def test_a_password_is_sent_and_never_shown(daemon: Tcp) -> None:
    with DaemonSource(url(daemon).replace("//", "//me:p%40ss@")) as source:
        source.snapshot()
        daemon.answers = (401, "text/plain", b"", None)
        with pytest.raises(PermissionDenied, match="401") as refused:
            source.snapshot()
    assert daemon.requests[0][1]["Authorization"] == "Basic bWU6cEBzcw=="
    assert "p%40ss" not in str(refused.value)
    assert "p%40ss" not in source.url


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, "text/html", b"<p>", None), "not the answer of a slabmon daemon"),
        ((404, "text/plain", b"", None), "404"),
        ((503, "text/plain", b"", None), "503"),
        ((503, "text/plain", b"503 no reading within 1 s\n", None), "503 no reading within"),
        ((503, "text/plain", b"503 \x1b[2J", None), r"503 .x1b"),
        ((200, codec.CONTENT_TYPE, b"nonsense", None), "not a slabmon snapshot"),
        ((200, codec.CONTENT_TYPE, BODY[:-1], None), "damaged"),
        ((200, codec.CONTENT_TYPE, BODY[:-1], len(BODY)), "damaged"),
        ((302, "text/plain", b"", None), "302"),
    ],
)
def test_a_wrong_answer_is_one_clear_error_and_the_next_can_be_right(
    daemon: Tcp, answer: tuple[int, str, bytes, int | None], says: str
) -> None:
    right = daemon.answers
    with DaemonSource(url(daemon)) as source:
        daemon.answers = answer
        with pytest.raises(UsageError, match=says) as refused:
            source.snapshot()
        assert url(daemon) in str(refused.value)
        daemon.answers = right
        assert_same(source.snapshot(), full())


def test_one_damaged_snapshot_of_the_past_is_told_from_other_errors(daemon: Tcp) -> None:
    with DaemonSource(url(daemon)) as source:
        daemon.answers = (410, "text/plain", b"410 recording x, snapshot 7: no\n", None)
        with pytest.raises(DamagedSnapshot, match="snapshot 7: no"):
            source.at(0)
        damaged: dict[float, str] = {}
        assert not list(readable(source, [1.0, 2.0], damaged))
        assert list(damaged) == [1.0, 2.0]
        daemon.answers = (404, "text/plain", b"404 no history\n", None)
        with pytest.raises(UsageError, match="no history"):
            list(readable(source, [1.0], damaged))


def test_the_past_is_asked_for(daemon: Tcp) -> None:
    with DaemonSource(url(daemon)) as source:
        found = source.at(1_700_000_000.25)
        assert found.time == 1_699_999_995.125
        assert_same(found.snapshot, full())
        body = b'{"first": 1.5, "last": 7, "times": [2, 3.25]}'
        daemon.answers = (200, "application/json", body, None)
        assert source.span() == (1.5, 7.0)
        assert source.times(2, 4, 9999) == [2.0, 3.25]
    assert [path for path, _ in daemon.requests] == [
        "/api/v1/snapshot?at=1700000000.250",
        "/api/v1/history",
        "/api/v1/history?from=2.000&to=4.000&most=1000",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"[]",
        b'{"first": "x", "last": 1}',
        b"[" * 4096,
        b"1",
        b'{"first": 1e999, "last": 2, "times": 7}',
    ],
)
def test_a_history_that_is_none_is_an_error(daemon: Tcp, wrong: bytes) -> None:
    daemon.answers = (200, "application/json", wrong, None)
    with (
        DaemonSource(url(daemon)) as source,
        pytest.raises(UsageError, match="not the answer of a slabmon"),
    ):
        source.span()
    with (
        DaemonSource(url(daemon)) as source,
        pytest.raises(UsageError, match="not the answer of a slabmon"),
    ):
        source.times(0, 1, 2)


@pytest.mark.parametrize("taken", [None, "x", "nan", "inf"])
def test_a_snapshot_of_no_time_is_an_error(daemon: Tcp, taken: str | None) -> None:
    daemon.taken = taken
    with (
        DaemonSource(url(daemon)) as source,
        pytest.raises(UsageError, match="not the answer of a slabmon"),
    ):
        source.at(1.0)


def test_an_endless_answer_is_cut_off(daemon: Tcp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_BYTES", len(BODY) - 1)
    with DaemonSource(url(daemon)) as source, pytest.raises(UsageError, match="limit"):
        source.snapshot()


def test_nobody_there(tmp_path: Path) -> None:
    server = Tcp(("127.0.0.1", 0), Daemon)
    address = url(server)
    server.server_close()
    for place in (address, address.replace("http", "https"), f"unix:{tmp_path}/none"):
        with DaemonSource(place) as source, pytest.raises(UsageError, match="is it running"):
            source.snapshot()


def test_a_port_that_speaks_no_tls(daemon: Tcp) -> None:
    address = url(daemon).replace("http", "https")
    with DaemonSource(address) as source, pytest.raises(UsageError, match="cannot reach"):
        source.snapshot()


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "localhost:7522",
        "ftp://x",
        "http://",
        "http://[::1",
        "http://h:99999999",
        "http://h:x",
        "unix:",
        "http://h/\n",
        "http://a b",
        "http://" + "x" * 80 + "." + "y" * 80,
    ],
)
def test_what_is_no_url_is_one_clear_error(wrong: str) -> None:
    with pytest.raises(SlabmonError) as refused, DaemonSource(wrong) as source:
        source.snapshot()
    assert refused.value.exit_code == 2


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="certificates"):
        DaemonSource("https://localhost", tmp_path / "none.pem")


def test_the_past_of_the_page_arrives_or_is_one_clear_error(daemon: Tcp) -> None:
    past = window_of(full(), later(full())).past
    assert past.moments
    daemon.answers = (200, window_past.CONTENT_TYPE, window_past.encode(past, 20), None)
    with DaemonSource(url(daemon)) as source:
        assert source.window().moments == past.moments
        assert daemon.requests[-1][0] == "/api/v1/window"
        daemon.answers = (200, window_past.CONTENT_TYPE, b"\x80", None)
        with pytest.raises(UsageError, match="not the past of a window"):
            source.window()


def test_a_census_arrives_as_it_was(daemon: Tcp) -> None:
    daemon.answers = (200, "application/json", to_json(CENSUS).encode(), None)
    with DaemonSource(url(daemon)) as source:
        assert source.census() == CENSUS
    assert daemon.requests[-1][0].startswith("/api/v1/census?max_age=")


def test_a_census_is_requested_and_not_waited_for(daemon: Tcp) -> None:
    daemon.answers = (503, "text/plain", b"503 a census is being taken: 7 % done\n", None)
    with DaemonSource(url(daemon)) as source:
        source.request_census()
    assert daemon.requests[-1][0].startswith("/api/v1/census?max_age=")


def test_a_census_that_is_not_there_yet_can_be_asked_for_again(daemon: Tcp) -> None:
    daemon.answers = (503, "text/plain", b"503 a census is being taken: 7 % done\n", None)
    with DaemonSource(url(daemon)) as source:
        for header, seconds in ((None, math.inf), ("3", 3.0), ("soon", math.inf), ("-1", math.inf)):
            daemon.retry_after = header
            with pytest.raises(NotReady, match="7 % done") as raised:
                source.census()
            assert raised.value.seconds == seconds


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"nonsense", "does not understand"),
        (b"[]", "does not understand"),
        (b"{}", "another format"),
        (to_json(CENSUS).encode().replace(b'"schema":1', b'"schema":2'), "another format"),
        (to_json(CENSUS).encode().replace(b"dentry", rb"\u001b[2J"), "does not understand"),
        (to_json(CENSUS).encode().replace(b'"objects":130', b'"objects":"x"'), "not understand"),
    ],
)
def test_a_malformed_census_is_one_clear_error(daemon: Tcp, document: bytes, says: str) -> None:
    daemon.answers = (200, "application/json", document, None)
    with DaemonSource(url(daemon)) as source, pytest.raises(UsageError, match=says) as raised:
        source.census()
    assert "\x1b" not in str(raised.value)
