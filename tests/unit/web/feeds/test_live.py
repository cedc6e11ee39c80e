# SPDX-License-Identifier: Apache-2.0
"""What the web process keeps of the present, whether or not a page is open."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from slabmon.web.feeds import live as module
from slabmon.web.feeds.live import LiveViews, PageMoment
from tests.support.serving import FakeSource


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
