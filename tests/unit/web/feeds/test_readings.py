# SPDX-License-Identifier: Apache-2.0
"""The channel between the processes, and a collector that hangs, fails, talks nonsense or dies."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.census.codec import encode as encode_census
from slabmon.model import CENSUS_FEATURE
from slabmon.runtime.channel import (
    ALIVE,
    CENSUS,
    COMMANDS,
    DETAILED,
    DOUBT,
    HEADER_BYTES,
    MAX_BODY,
    PLAIN,
    RETIRE,
    TAKE_CENSUS,
    WANTED,
    Answer,
    Header,
    ProtocolError,
    Started,
    doubt_digest,
)
from slabmon.runtime.figures import CensusFigures, DaemonFigures
from slabmon.store.codec import encode
from slabmon.web.feeds import readings
from slabmon.web.feeds.readings import Channel
from tests.support.builders import snapshot
from tests.support.serving import run
from tests.unit.export.test_census import CENSUS as OLD_CENSUS

BODY = encode(snapshot())
FIGURES = DaemonFigures(snapshot_seconds=1.0)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.sampled_from([*COMMANDS, RETIRE]),
    st.booleans(),
    st.none() | st.builds(DaemonFigures, snapshot_seconds=FINITE, web_cpu_seconds=FINITE),
    st.binary(max_size=20),
)
def test_answers_arrive_as_they_were_sent(
    kind: bytes, ok: bool, figures: DaemonFigures | None, body: bytes
) -> None:
    sent = Answer(kind, ok, figures, body)
    data = sent.pack()
    header = Header.unpack(data[:HEADER_BYTES])
    assert len(data) == HEADER_BYTES + header.figures_bytes + header.body_bytes
    assert header.answer(data[HEADER_BYTES:]) == sent


@given(st.binary(min_size=HEADER_BYTES, max_size=200))
def test_any_bytes_are_an_answer_or_garbage(data: bytes) -> None:
    try:
        header = Header.unpack(data[:HEADER_BYTES])
        header.answer(data[HEADER_BYTES:])
    except ProtocolError:
        return
    assert header.body_bytes <= MAX_BODY


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_are_a_start_message_or_garbage(document: bytes, rest: bytes) -> None:
    for data in (document, struct.pack("!I", len(document)) + document + rest):
        try:
            found = Started.unpack(data)
        except ProtocolError:
            continue
        assert found is None or isinstance(found[0], Started)


def test_a_command_may_follow_the_start_message_at_once() -> None:
    sent = Started({"/a": (1, 2)}, "wrong", 2, True)
    data = sent.pack() + PLAIN
    assert Started.unpack(data) == (sent, PLAIN)
    assert all(Started.unpack(data[:length]) is None for length in range(len(data) - 1))


class Collector:
    """The other end of a channel, by hand."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.end = end
        self.commands = 0

    async def command(self) -> bytes:
        self.commands += 1
        while True:
            found = await asyncio.get_running_loop().sock_recv(self.end, 100)
            if command := found.replace(ALIVE, b""):
                return command

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.end, data)

    async def answer(self, *, ok: bool = True, body: bytes = BODY) -> bytes:
        kind = await self.command()
        await self.send(Answer(kind, ok, FIGURES, body).pack())
        return kind


@asynccontextmanager
async def channel(budget: float = 20.0) -> AsyncIterator[tuple[Channel, Collector]]:
    theirs, ours = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=1 << 20)
    retired = asyncio.Event()
    found = Channel(reader, writer, budget, retired.set)
    with theirs:
        yield found, Collector(theirs)
    found.close()


def test_requests_that_come_together_share_one_reading() -> None:
    async def check() -> None:
        async with channel() as (source, collector):
            waiting = [asyncio.create_task(source.now()) for _ in range(50)]
            await collector.answer()
            found = await asyncio.gather(*waiting)
            assert {now.problem for now in found} == {""}
            assert len({id(now.reading) for now in found}) == 1
            assert (await source.now()).reading is found[0].reading, "and so do later ones"
            assert found[0].figures == FIGURES
            assert collector.commands == 1

    run(check)


def test_later_requests_get_a_new_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "SHARED_SECONDS", -1)

    async def check() -> None:
        async with channel() as (source, collector):
            for number in (1, 2, 3):
                waiting = asyncio.create_task(source.now())
                await collector.answer()
                reading = (await waiting).reading
                assert reading
                assert reading.number == number

    run(check)


def test_a_detailed_reading_serves_everyone_a_plain_one_does_not() -> None:
    async def check() -> None:
        async with channel() as (source, collector):
            plain, detailed = (asyncio.create_task(source.now(which)) for which in (False, True))
            assert await collector.answer() == PLAIN
            assert await collector.answer() == DETAILED
            assert not (await plain).reading.detailed  # type: ignore[union-attr]
            assert (await detailed).reading.detailed  # type: ignore[union-attr]
            assert (await source.now()).reading.detailed  # type: ignore[union-attr]

    run(check)


def test_while_the_collector_hangs_the_last_reading_is_shown_with_its_age(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readings, "SHARED_SECONDS", -1)

    async def check() -> None:
        async with channel(budget=0.1) as (source, collector):
            found = await asyncio.gather(*(source.now() for _ in range(5)))
            assert {now.problem for now in found} == {"no reading within 0.1 s"}
            assert source.timeouts == 5
            assert await collector.command() == PLAIN, "one command, not one per request"
            await collector.send(Answer(PLAIN, True, FIGURES, BODY).pack())
            late = await source.now()
            assert not late.problem
            now = await source.now()
            assert now.problem
            assert now.reading is late.reading
            assert now.reading
            assert now.reading.age > 0

    run(check)


def test_tables_that_cannot_be_read_are_a_problem_until_they_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readings, "SHARED_SECONDS", -1)

    async def check() -> None:
        async with channel() as (source, collector):
            for ok in (True, False, True):
                waiting = asyncio.create_task(source.now())
                await collector.answer(ok=ok, body=BODY if ok else b"no")
                now = await waiting
                assert bool(now.problem) == (not ok)
                assert now.reading
            assert source.failures == 1

    run(check)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"x" * 100,
        Answer(DETAILED, True, FIGURES, BODY).pack(),
        Answer(PLAIN, True, FIGURES, b"x").pack(),
        Answer(PLAIN, True, FIGURES, BODY).pack() * 2,
        Answer(PLAIN, True, FIGURES, BODY[:-7]).pack(),
        struct.pack("!4sc?xxxII", b"slm2", PLAIN, True, 0, 1 << 31),
        struct.pack("!4sc?xxxII", b"slm2", PLAIN, True, 2, 0) + b"[]",
    ],
)
def test_nonsense_ends_the_channel_and_the_last_reading_is_shown(
    nonsense: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "SHARED_SECONDS", -1)

    async def check() -> None:
        async with channel() as (source, collector):
            first = asyncio.create_task(source.now())
            await collector.answer()
            reading = (await first).reading
            second = asyncio.create_task(source.now())
            await collector.command()
            await collector.send(nonsense)
            await second
            await asyncio.wait_for(source.closed.wait(), 20)
            now = await source.now()
            assert "protocol error" in now.problem
            assert now.reading
            assert reading

    run(check)


def test_when_the_collector_is_gone_requests_learn_it_at_once() -> None:
    async def check() -> None:
        async with channel() as (source, collector):
            waiting = asyncio.create_task(source.now())
            await collector.command()
            collector.end.close()
            assert "gone" in (await waiting).problem
            assert "gone" in (await source.now()).problem

    run(check)


def test_the_last_reading_of_a_collector_that_is_gone_is_an_old_one_at_once() -> None:
    async def check() -> None:
        async with channel() as (source, collector):
            waiting = asyncio.create_task(source.now())
            await collector.answer()
            reading = (await waiting).reading
            collector.end.close()
            await asyncio.wait_for(source.closed.wait(), 20)
            now = await source.now()
            assert "gone" in now.problem
            assert now.reading is reading

    run(check)


def test_tracking_is_asked_for_at_most_every_few_seconds() -> None:
    async def check() -> None:
        async with channel() as (source, collector):
            for _ in range(3):
                source.want_tracking()
            waiting = asyncio.create_task(source.now())
            received = b""
            while len(received) < 2:
                received += await collector.command()
            assert sorted(received) == sorted(WANTED + PLAIN)
            waiting.cancel()

    run(check)


def test_a_doubt_is_a_digest_and_rare() -> None:
    async def check() -> None:
        async with channel() as (source, collector):
            assert source.doubt("cache", "kmalloc-64")
            assert not source.doubt("site", "f+0x1")
            waiting = asyncio.create_task(source.now())
            expected = DOUBT + doubt_digest("cache", "kmalloc-64") + PLAIN
            received = b""
            while len(received) < len(expected):
                received += await collector.command()
            assert received == expected
            waiting.cancel()

    run(check)


def census_figures(number: int, running: bool = False) -> DaemonFigures:
    return DaemonFigures(census=CensusFigures(number=number, running=running))


def test_a_census_is_requested_then_fetched_when_it_is_there() -> None:
    new = dataclasses.replace(OLD_CENSUS, taken=time.time())

    async def check() -> None:
        async with channel() as (source, collector):
            asked = asyncio.create_task(source.census(60))
            assert await collector.command() == TAKE_CENSUS
            await collector.send(Answer(TAKE_CENSUS, True, census_figures(0, True)).pack())
            now = await asked
            assert (now.census, now.figures.running, now.problem) == (None, True, "")
            # Asked again at once, it is not requested again.
            assert (await source.census(60)).figures.running
            reading = asyncio.create_task(source.now())
            assert await collector.command() == PLAIN
            await collector.send(Answer(PLAIN, True, census_figures(1), BODY).pack())
            await reading
            assert await collector.command() == CENSUS
            answer = Answer(CENSUS, True, census_figures(1), encode_census(new))
            waiting = asyncio.create_task(source.census(60))
            await collector.send(answer.pack())
            assert (await waiting).census == new
            assert (await source.census(60)).number == 1  # young enough
            assert collector.commands == 3

    run(check)


def test_an_old_census_is_answered_with_while_another_one_is_requested() -> None:
    async def check() -> None:
        async with channel() as (source, collector):
            asked = asyncio.create_task(source.census(60))
            assert await collector.command() == TAKE_CENSUS
            await collector.send(Answer(TAKE_CENSUS, True, census_figures(4, True)).pack())
            assert await collector.command() == CENSUS
            body = encode_census(OLD_CENSUS)
            await collector.send(Answer(CENSUS, True, census_figures(4, True), body).pack())
            now = await asked
            assert (now.census, now.number, now.figures.running) == (OLD_CENSUS, 4, True)

    run(check)


def test_readings_wait_for_a_census_that_is_fetched() -> None:
    async def check() -> None:
        async with channel() as (source, collector):
            census = asyncio.create_task(source.census(60))
            assert await collector.command() == TAKE_CENSUS
            reading = asyncio.create_task(source.now())
            await asyncio.sleep(0)
            await collector.send(Answer(TAKE_CENSUS, True, census_figures(0, True)).pack())
            await census
            assert await collector.answer() == PLAIN
            assert (await reading).reading is not None

    run(check)


def test_readings_have_the_last_census_and_why_the_next_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readings, "SHARED_SECONDS", -1)
    failed = DaemonFigures(census=CensusFigures(number=1, error="census: no room"))

    async def check() -> None:
        async with channel() as (source, collector):
            waiting = asyncio.create_task(source.now())
            assert await collector.command() == PLAIN
            await collector.send(Answer(PLAIN, True, census_figures(1), BODY).pack())
            assert (reading := (await waiting).reading)
            assert reading.snapshot.census is None
            assert await collector.command() == CENSUS
            await collector.send(
                Answer(CENSUS, True, census_figures(1), encode_census(OLD_CENSUS)).pack()
            )
            waiting = asyncio.create_task(source.now())
            assert await collector.command() == PLAIN
            await collector.send(Answer(PLAIN, True, failed, BODY).pack())
            assert (reading := (await waiting).reading)
            assert reading.snapshot.census == OLD_CENSUS
            assert reading.snapshot.features[CENSUS_FEATURE].reason == "census: no room"

    run(check)


@pytest.mark.parametrize("body", [b"nonsense", encode_census(OLD_CENSUS)[:-1]])
def test_a_malformed_census_ends_the_channel(body: bytes) -> None:
    async def check() -> None:
        async with channel() as (source, collector):
            asked = asyncio.create_task(source.census(60))
            assert await collector.command() == TAKE_CENSUS
            await collector.send(Answer(TAKE_CENSUS, True, census_figures(1)).pack())
            assert await collector.command() == CENSUS
            await collector.send(Answer(CENSUS, True, census_figures(1), body).pack())
            assert "not a census" in (await asked).problem

    run(check)


def test_a_census_is_not_waited_for_longer_than_the_budget() -> None:
    async def check() -> None:
        async with channel(budget=0.05) as (source, _):
            assert "within 0.05 s" in (await source.census(60)).problem

    run(check)
