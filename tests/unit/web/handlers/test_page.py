# SPDX-License-Identifier: Apache-2.0
"""GET /api/v1/table: views of a census that there is not yet."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from slabmon.store.settings import HistorySettings
from slabmon.web.feeds.history_writer import HistoryWriter
from tests.support.builders import snapshot
from tests.support.censuses import rich
from tests.support.serving import run, serving


@pytest.mark.parametrize(
    ("query", "present", "requests"),
    [
        ("view=owners", False, 1),
        ("view=census", False, 1),
        ("view=owners", True, 0),
        ("view=caches", False, 0),
    ],
)
def test_a_census_is_requested_when_one_is_to_be_shown(
    query: str, present: bool, requests: int
) -> None:
    async def check() -> None:
        async with serving() as server:
            server.source.now_is = replace(snapshot(), census=rich() if present else None)
            server.context.past = HistoryWriter(HistorySettings(), server.source)
            client = await server.connect()
            reply = await client.ask(f"/api/v1/table?{query}")
            client.close()
            assert reply.status == 200
            assert server.source.census_requests == requests
            document = json.loads(reply.body)
            assert ("no census yet" in document["view"]["note"]) == bool(requests)
            if present:
                assert [row["values"][2] for row in document["rows"]] == [21_000, 2100, 1000, 1000]

    run(check)
