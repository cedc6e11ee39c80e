# SPDX-License-Identifier: Apache-2.0
"""The history on a disk that fails, or that somebody else changes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from slabmon.store.settings import HistorySettings
from slabmon.store.writer import RecordingWriter
from slabmon.web.feeds.history_writer import HistoryWriter, NoHistory
from tests.support.serving import FakeSource, run


class Host:
    """A history that is written every millisecond."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = HistoryWriter(
            HistorySettings(path=str(path), interval_seconds=1), FakeSource()
        )

    def write_while(self, work: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            writing = asyncio.create_task(self.writer.run())
            try:
                await work()
            finally:
                writing.cancel()

        run(main)

    async def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(1000):
            if holds():
                return
            await asyncio.sleep(0.01)
        pytest.fail("it never was")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    sleep = asyncio.sleep
    monkeypatch.setattr(
        "slabmon.web.feeds.history_writer.asyncio.sleep", lambda seconds: sleep(min(seconds, 0.001))
    )
    result = Host(tmp_path / "slabs.db")
    yield result
    result.writer.close()


def test_a_history_that_is_moved_away_is_begun_again(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    async def move() -> None:
        await host.until(host.path.exists)
        host.path.rename(host.path.with_suffix(".old"))
        await host.until(host.path.exists)

    host.write_while(move)
    assert "moved or deleted" in caplog.text


def test_the_cause_is_told_while_nothing_can_be_recorded(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    append = RecordingWriter.append
    caplog.set_level("INFO")

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    def cause() -> str:
        try:
            host.writer.span()
        except NoHistory as error:
            return str(error)
        return ""

    async def fill() -> None:
        await host.until(lambda: not cause())
        monkeypatch.setattr(RecordingWriter, "append", full)
        await host.until(lambda: "database or disk is full" in cause())
        await host.until(lambda: "cannot record history, retrying" in caplog.text)
        monkeypatch.setattr(RecordingWriter, "append", append)
        await host.until(lambda: "recording history again" in caplog.text)
        assert not cause()

    host.write_while(fill)
    assert caplog.text.count("cannot record history") == 1


def test_a_folder_that_is_gone_is_a_cause(host: Host, tmp_path: Path) -> None:
    host.writer.close()
    gone = Host(tmp_path / "gone" / "slabs.db")

    async def look() -> None:
        await gone.until(lambda: bool(gone.writer._problem))
        with pytest.raises(NoHistory, match=r"cannot be written: .*No such file"):
            gone.writer.span()

    gone.write_while(look)
