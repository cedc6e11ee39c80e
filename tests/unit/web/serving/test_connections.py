# SPDX-License-Identifier: Apache-2.0
"""Clients that take their time, take no answers, or send what is no request."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from unittest import mock

import pytest
from tornado.iostream import IOStream

from slabmon.web.serving import connections
from slabmon.web.serving.connections import Connections, client_of
from slabmon.web.settings import WebSettings
from tests.support.builders import cache, snapshot
from tests.support.serving import Client, run, serving

SMALL = WebSettings(max_connections=20, max_connections_per_client=8)
HASTY = WebSettings(request_seconds=0.5, response_seconds=0.5)


def test_addresses_are_counted_for_whoever_can_choose_them() -> None:
    assert client_of(("10.0.0.1", 1)) == client_of(("10.0.0.1", 2)) == "10.0.0.1"
    assert client_of(("2001:db8::1", 1, 0, 0)) == client_of(("2001:db8::ffff:1", 1, 0, 0))
    assert client_of(("2001:db8::1", 1, 0, 0)) != client_of(("2001:db8:0:1::1", 1, 0, 0))
    assert client_of(("::ffff:10.0.0.1", 1, 0, 0)) == "10.0.0.1"
    assert client_of(("fe80::1%eth0", 1, 0, 2)) == "fe80::/64"
    assert client_of("") == client_of(b"") == connections.LOCAL


def test_at_the_limit_who_has_waited_longest_goes() -> None:
    async def check() -> None:
        async with serving(SMALL) as running:
            idle = [await running.connect() for _ in range(SMALL.max_connections_per_client)]
            assert (await idle[0].ask()).status == 200, "now it has waited least"
            late = await running.connect()
            assert (await late.ask()).status == 200
            assert await idle[1].closed() == b""
            assert (await idle[0].ask()).status == 200
            found = running.context.connections
            assert len(found) == SMALL.max_connections_per_client
            assert found.refused["evicted"] == 1
            for client in (*idle, late):
                client.close()

    run(check)


def test_beyond_the_limit_of_all_together_the_one_that_has_most_gives() -> None:
    found = Connections(WebSettings(max_connections=8, max_connections_per_client=6))
    streams = [mock.Mock() for _ in range(10)]
    for number, stream in enumerate(streams):
        address = "10.0.0.1" if number in (0, 7, 9) else "10.0.0.2" if number < 6 else "10.0.0.3"
        assert found.admit(stream, (address, number))
    assert [stream.close.called for stream in streams] == [False, True, True] + [False] * 7
    assert len(found) == 8
    for stream in streams:
        found.forget(stream)
    assert len(found) == 0
    assert not found._by_client
    assert not found._waiting


def test_while_all_are_being_answered_a_newcomer_is_refused() -> None:
    async def check() -> None:
        async with serving(SMALL) as running:
            running.source.release.clear()
            busy = [await running.connect() for _ in range(SMALL.max_connections_per_client)]
            for client in busy:
                await client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            while any(running.context.connections._waiting.values()):
                await asyncio.sleep(0.01)
            newcomer = await running.connect()
            assert await newcomer.closed() == b""
            assert running.context.connections.refused["refused"] == 1
            running.source.release.set()
            assert {(await client.reply()).status for client in busy} == {200}
            for client in (*busy, newcomer):
                client.close()

    run(check)


@pytest.mark.parametrize(
    "piece",
    [
        b"",
        b"GET /metrics HT",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
    ],
)
def test_who_does_not_finish_a_request_is_dropped(piece: bytes) -> None:
    async def check() -> None:
        async with serving(HASTY) as running:
            client = await running.connect()
            await client.send(piece)
            assert b"200" not in await client.closed()
            assert len(running.context.connections) == 0
            client.close()

    run(check)


def test_drops_of_a_header_do_not_buy_time() -> None:
    async def check() -> None:
        async with serving(HASTY) as running:
            client = await running.connect()
            ended = asyncio.create_task(client.closed())
            await client.send(b"GET / HTTP/1.1\r\n")
            while not ended.done():
                client.writer.write(b"X: y\r\n")
                await asyncio.sleep(0.02)
            client.close()

    run(check)


def test_who_does_not_take_the_answer_is_dropped() -> None:
    async def check() -> None:
        async with serving(HASTY) as running:
            many = tuple(cache(f"cache-{number:05}") for number in range(20_000))
            running.source.now_is = snapshot(caches=many)
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect(("127.0.0.1", running.port))
            reader, writer = await asyncio.open_connection(sock=raw, limit=2)
            client = Client(reader, writer)
            for _ in range(3):
                await client.send(b"GET /api/v1/snapshot HTTP/1.1\r\nHost: x\r\n\r\n")
            connections = running.context.connections
            while not connections.refused["slow"] or len(connections):  # counted, then closed
                await asyncio.sleep(0.05)
            client.close()

    run(check)


def stream(unsent: int) -> mock.Mock:
    return mock.Mock(_total_write_index=100 + unsent, _total_write_done_index=100)


def test_beyond_the_limit_answers_go_that_wait_most_and_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "MAX_UNSENT", 1000)
    found = Connections(WebSettings())
    # Bytes that are not taken, and for how many seconds.
    waiting = [(300, 5.0), (0, 60.0), (500, 1.0), (10, 20.0), (100, 30.0)]
    streams = [stream(unsent) for unsent, _ in waiting]
    for each, (_, seconds) in zip(streams, waiting, strict=True):
        assert found.admit(each, ("10.0.0.1", 1))
        found._all[each].writing_since = time.monotonic() - seconds
    newcomer = stream(0)
    assert found.admit(newcomer, ("10.0.0.2", 1))
    found.make_room(newcomer, 90)
    assert not any(each.close.called for each in streams), "there is room"
    found.make_room(newcomer, 150)
    assert [each.close.called for each in streams] == [False, False, False, False, True]
    assert found.refused["slow"] == 1
    found.make_room(newcomer, 400)
    assert [each.close.called for each in streams] == [True, False, False, False, True]
    found.make_room(newcomer, 10_000)
    assert [each.close.called for each in streams] == [True, False, True, True, True]
    assert not newcomer.close.called


def test_an_answer_larger_than_all_that_may_wait_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_UNSENT", 10)

    async def check() -> None:
        async with serving() as running:
            client = await running.connect()
            assert (await client.ask("/metrics")).status == 200
            assert (await client.ask("/metrics")).status == 200
            client.close()

    run(check)


LONG = b"a" * (70 << 10)


NONSENSE = [
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"\0" * 100 + b"\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /" + LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + LONG + b"\r\n\r\n",
    LONG,
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    b"GET http://other/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"BREW /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("request_", NONSENSE)
def test_what_is_no_request_harms_nobody(request_: bytes) -> None:
    async def check() -> None:
        async with serving() as running:
            client = await running.connect()
            client.writer.write(request_)
            client.writer.write_eof()
            answer = await client.closed()
            assert b" 200 " not in answer
            assert b"Traceback" not in answer
            honest = await running.connect()
            assert (await honest.ask("/metrics")).status == 200
            client.close()
            honest.close()

    run(check)


@pytest.mark.parametrize("early", [False, True])
def test_what_is_no_request_leaves_no_garbage(early: bool) -> None:
    """It could come faster than garbage is collected. `early`: all is there when the server first
    looks."""

    async def check() -> None:
        async with serving() as running:
            for request in NONSENSE:
                raw = socket.create_connection(("127.0.0.1", running.port))
                if early:
                    raw.sendall(request)
                client = Client(*await asyncio.open_connection(sock=raw))
                if not early:
                    while not len(running.context.connections):
                        await asyncio.sleep(0)
                    client.writer.write(request)
                client.writer.write_eof()
                await client.closed()
                client.close()
            while len(running.context.connections):
                await asyncio.sleep(0.01)
            assert len(streams()) == before

    def streams() -> list[object]:
        return [found for found in gc.get_objects() if isinstance(found, IOStream)]

    gc.collect()
    before = len(streams())  # that other tests, or what pytest keeps of them, still hold
    gc.disable()
    try:
        run(check)
    finally:
        gc.enable()


def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    async def check() -> None:
        async with serving() as running:
            client = await running.connect()
            await client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
            assert {(await client.reply()).status for _ in range(200)} == {200}
            client.close()

    run(check)
