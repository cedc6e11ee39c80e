# SPDX-License-Identifier: Apache-2.0
"""GET /api/v1/census: the last census, or when to ask again."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from slabmon.base.errors import UsageError
from slabmon.runtime.figures import CensusFigures
from slabmon.web.feeds.readings import CensusNow
from slabmon.web.handlers.census import MAX_AGE_SECONDS
from tests.support.serving import run, serving
from tests.unit.export.test_census import CENSUS

OLD = dataclasses.replace(CENSUS, taken=1000.0)
TAKING = CensusFigures(running=True, done=0.5)


class FakeCensuses:
    def __init__(self, now: CensusNow | None = None) -> None:
        self.now = now
        self.ages: list[float] = []

    async def census(self, max_age: float) -> CensusNow:
        self.ages.append(max_age)
        if self.now is None:
            raise UsageError("a recording holds no census")
        return self.now


@pytest.mark.parametrize(
    ("query", "now", "status", "retry", "text"),
    [
        ("", CensusNow(OLD, 1), 200, None, '"schema":1'),
        ("", CensusNow(OLD, 1, TAKING), 200, None, '"schema":1'),
        ("?max_age=10", CensusNow(OLD, 1, TAKING), 503, "1", "being taken: 50 % done"),
        ("?max_age=10", CensusNow(OLD, 1), 200, None, '"schema":1'),
        ("", CensusNow(figures=TAKING), 503, "1", "being taken"),
        ("", CensusNow(figures=CensusFigures(not_before_seconds=7.5)), 503, "8", "budget"),
        (
            "",
            CensusNow(figures=CensusFigures(error="\u2028failed")),
            503,
            "60",
            "\\u2028failed",
        ),
        ("", CensusNow(problem="the collector is gone"), 503, "1", "the collector is gone"),
        ("", None, 404, None, "holds no census"),
        ("?max_age=-1", CensusNow(OLD, 1), 400, None, "max_age"),
        ("?max_age=nan", CensusNow(OLD, 1), 400, None, "max_age"),
        ("?max_age=x", CensusNow(OLD, 1), 400, None, "max_age"),
    ],
)
def test_answers(
    query: str, now: CensusNow | None, status: int, retry: str | None, text: str
) -> None:
    async def check() -> None:
        async with serving() as server:
            server.context.censuses = FakeCensuses(now)
            client = await server.connect()
            reply = await client.ask(f"/api/v1/census{query}")
            client.close()
        assert reply.status == status, reply.body
        assert reply.headers.get("retry-after") == retry
        assert text in reply.body.decode()

    run(check)


def test_a_census_is_rendered_once() -> None:
    async def check() -> None:
        async with serving() as server:
            new = dataclasses.replace(CENSUS, taken=time.time())
            server.context.censuses = censuses = FakeCensuses(CensusNow(new, 1))
            client = await server.connect()
            first = await client.ask("/api/v1/census")
            body = server.context.census_body
            again = await client.ask("/api/v1/census")
            assert server.context.census_body is body
            assert first.body == again.body
            censuses.now = CensusNow(OLD, 2)
            assert json.loads((await client.ask("/api/v1/census")).body)["taken"] == OLD.taken
            client.close()
        assert censuses.ages == [MAX_AGE_SECONDS] * 3

    run(check)
