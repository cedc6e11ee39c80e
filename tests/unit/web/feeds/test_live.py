# SPDX-License-Identifier: Apache-2.0
"""What the web process keeps of the present, whether or not a page is open."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from slabmon.base.activity import Activity
from slabmon.leaks.doubts import Doubt
from slabmon.web.feeds import live as module
from slabmon.web.feeds.live import LiveViews, PageMoment
from slabmon.web.handlers.page_json import header
from tests.support.builders import snapshot
from tests.support.serving import FakeSource


def shown_facts(moment: PageMoment | str) -> dict[str, str]:
    assert isinstance(moment, PageMoment)
    return {fact["name"]: fact["text"] for fact in header(moment)["facts"]}


def test_pauses_and_suspension_are_facts_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARED_SECONDS", -1.0)
    live, source = LiveViews(), FakeSource()

    async def facts(seconds: float, suspended: float = 0.0) -> dict[str, str]:
        tracking = replace(snapshot().tracking, seconds=seconds, suspended=suspended)
        source.now_is = replace(snapshot(), tracking=tracking)
        return shown_facts(await live.moment(source))

    async def check() -> None:
        for seconds in (10, 20, 30):
            assert not {"suspended", "not read"} & set(await facts(seconds))
        later = await facts(130, 8 * 3600.0)
        assert later["not read"] == "1m30s of 2m00s"
        assert later["suspended"] == "8h00m"

    asyncio.run(check())


def test_what_was_read_before_a_suspension_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLOCK_MONOTONIC stands still meanwhile, so that only milliseconds have passed by it."""
    live, source = LiveViews(), FakeSource()
    now = 1000.0
    for name in ("slabmon.web.feeds.live", "slabmon.web.feeds.readings", "tests.support.serving"):
        monkeypatch.setattr(f"{name}.boottime", lambda: now)

    async def check() -> None:
        nonlocal now
        await live.moment(source)
        assert source.taken == 1
        await live.moment(source)
        assert source.taken == 1, "shared"
        now += 8 * 3600
        source.problem = "the collector hangs"
        moment = await live.moment(source)
        assert isinstance(moment, PageMoment)
        assert (moment.age, moment.problem) == (8 * 3600, "the collector hangs")
        assert source.last is not None
        assert source.last.age == 8 * 3600

    asyncio.run(check())


def test_what_pages_were_shown_is_kept_while_one_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP_SECONDS", 0.0)
    live, source = LiveViews(), FakeSource()

    async def turns(count: int) -> None:
        work = asyncio.create_task(live.keep(source))
        for _ in range(count):
            await asyncio.sleep(0)
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    async def check() -> None:
        shown = await live.moment(source)
        assert isinstance(shown, PageMoment)
        assert source.wanted == 1, "somebody looks"
        await turns(3)
        assert live.held(shown.at) is not None
        live._held.clear()
        live._looked_at -= 60
        await turns(3)
        assert live.held(shown.at) is None
        assert isinstance(await live.moment(source), PageMoment), (
            "and there is another for the next"
        )

    asyncio.run(check())


def test_a_closer_look_is_asked_for_at_what_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    live, source = LiveViews(), FakeSource()
    monkeypatch.setattr(module, "doubts", lambda *_: iter([Doubt("cache", "msg"), Doubt("census")]))
    live._look_closer(source)
    assert not source.doubts, "nothing has been seen yet"

    async def check() -> None:
        await live.moment(source)
        source.patient = False
        live._look_closer(source)
        source.patient = True
        for _ in range(3):
            live._look_closer(source)

    asyncio.run(check())
    # In turn, as they are taken: what cannot be examined must not keep the others from it.
    message, census = ("cache", "msg"), ("census", "")
    assert source.doubts == [message, message, census, message]


@pytest.mark.parametrize(
    ("activity", "seconds"), [("awake", 10.0), ("asleep", 20.0), ("off", 60.0)]
)
def test_readings_are_rarer_while_tracking_sleeps(
    monkeypatch: pytest.MonkeyPatch, activity: str, seconds: float
) -> None:
    """Unless a page is open."""
    live, source = LiveViews(), FakeSource()
    tracking = replace(source.now_is.tracking, activity=Activity(activity))
    source.now_is = replace(source.now_is, tracking=tracking)
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", wait)
    with suppress(asyncio.CancelledError):
        asyncio.run(live.keep(source))
    assert waits == [seconds]
    assert not source.wanted
