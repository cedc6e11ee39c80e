# SPDX-License-Identifier: Apache-2.0
"""GET /api/v1/memory: counters as of now, struct pages of the last census."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from slabmon.runtime.figures import CensusFigures
from slabmon.web.feeds.readings import CensusNow
from tests.support.memory import MIB, TOTAL, reading, scan
from tests.support.serving import run, serving
from tests.unit.export.test_census import CENSUS
from tests.unit.web.handlers.test_census import FakeCensuses

SCANNED = dataclasses.replace(CENSUS, taken=1000.0, memory=scan())
TAKING = CensusFigures(running=True, done=0.5)


@pytest.mark.parametrize(
    ("query", "census", "status", "kernel_pages"),
    [
        ("", CensusNow(SCANNED, 1), 200, 60),
        ("", CensusNow(SCANNED, 1, TAKING), 200, 60),
        ("?max_age=10", CensusNow(SCANNED, 1, TAKING), 503, None),
        ("?max_age=10", CensusNow(SCANNED, 1), 200, 60),
        ("?max_age=10", CensusNow(dataclasses.replace(SCANNED, taken=time.time()), 1), 200, 60),
        ("", CensusNow(CENSUS, 1), 200, None),
        ("", CensusNow(), 200, None),
        ("?max_age=10", CensusNow(figures=TAKING), 503, None),
        ("", None, 200, None),
        ("?max_age=x", CensusNow(), 400, None),
    ],
)
def test_answers(
    query: str, census: CensusNow | None, status: int, kernel_pages: int | None
) -> None:
    async def check() -> None:
        async with serving() as server:
            server.source.now_is = dataclasses.replace(server.source.now_is, memory=reading())
            server.context.censuses = FakeCensuses(census)
            client = await server.connect()
            reply = await client.ask(f"/api/v1/memory{query}")
            client.close()
        assert reply.status == status, reply.body
        if status != 200:
            return
        document = json.loads(reply.body)
        rows = {row["name"]: row["bytes"] for row in document["rows"]}
        assert sum(rows.values()) + document["unaccounted_bytes"] == TOTAL
        assert rows.get("kernel_pages") == (None if kernel_pages is None else kernel_pages * MIB)
        assert document["host"]["release"] == server.source.now_is.host.release

    run(check)


def test_old_counters_are_no_answer() -> None:
    async def check() -> None:
        async with serving() as server:
            server.source.now_is = dataclasses.replace(server.source.now_is, memory=reading())
            server.context.censuses = FakeCensuses(CensusNow(SCANNED, 1))
            client = await server.connect()
            assert (await client.ask("/api/v1/memory")).status == 200
            server.source.problem = "no reading within 1 s"
            reply = await client.ask("/api/v1/memory")
            client.close()
        assert (reply.status, reply.body) == (503, b"503 no reading within 1 s\n")

    run(check)


def test_without_counters_there_is_no_ledger() -> None:
    async def check() -> None:
        async with serving() as server:
            server.context.censuses = FakeCensuses(CensusNow())
            client = await server.connect()
            reply = await client.ask("/api/v1/memory")
            client.close()
        assert (reply.status, b"could not be read" in reply.body) == (503, True)

    run(check)
