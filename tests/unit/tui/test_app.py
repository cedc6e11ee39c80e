# SPDX-License-Identifier: Apache-2.0
"""The application of top, before it is on the screen."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest

from slabmon.tui.app import ENDING, TopApp
from tests.support.terminal import Script, host, start


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_before_it_is_mounted_ends_it_when_it_is(number: signal.Signals) -> None:
    app = TopApp(Script(host()), start())
    app.open()
    try:
        app.remember_signals()
        signal.raise_signal(number)
        assert app.run(headless=True, size=(80, 24)) == 0
    finally:
        app.close()


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    TopApp(Script(host()), start()).remember_signals()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_reading_may_come_before_it_is_on_the_screen_and_after() -> None:
    app = TopApp(Script(host()), start())
    app.open()
    reading = app.Read(app.reading)

    async def run() -> None:
        app.on_top_app_read(reading)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert app.failure is None
        app.on_top_app_read(reading)

    try:
        asyncio.run(run())
    finally:
        app.close()
