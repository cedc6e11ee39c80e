# SPDX-License-Identifier: Apache-2.0
"""The history on a disk that fails, or that somebody else changes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from slabmon.base.errors import UsageError
from slabmon.store.settings import HistorySettings
from slabmon.store.writer import RecordingWriter
from slabmon.web.feeds.history_writer import HistoryWriter, NoHistory
from tests.support.recordings import moment
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


def test_while_nothing_can_be_recorded_the_past_is_answered(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    append = RecordingWriter.append
    caplog.set_level("INFO")

    def full(*_: object) -> None:
        raise UsageError("database or disk is full")

    async def fill() -> None:
        await host.until(lambda: host.writer.recording is True)
        span = host.writer.span()
        monkeypatch.setattr(RecordingWriter, "append", full)
        await host.until(lambda: "cannot record history, retrying" in caplog.text)
        assert host.writer.recording is False
        assert host.writer.span()[0] == span[0]
        assert host.writer.at(span[0]).time == span[0]
        monkeypatch.setattr(RecordingWriter, "append", append)
        await host.until(lambda: "recording history again" in caplog.text)
        assert host.writer.recording is True

    host.write_while(fill)
    assert caplog.text.count("cannot record history, retrying: database or disk is full") == 1
    assert caplog.text.count("cannot record history") == 1


def test_a_folder_that_is_removed_is_not_begun_again(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    folder = host.path.parent / "history"
    folder.mkdir()
    removed = Host(folder / "slabs.db")

    async def remove() -> None:
        await removed.until(lambda: removed.writer.recording is True)
        first, _ = removed.writer.span()
        shutil.rmtree(folder)
        await removed.until(lambda: "cannot record history" in caplog.text)
        assert removed.writer.recording is False
        assert removed.writer.at(first).time == first, "the open file is still read"
        folder.mkdir()
        await removed.until(lambda: removed.writer.recording is True)
        assert removed.writer.span()[0] > first

    removed.write_while(remove)
    removed.writer.close()
    assert f"{folder} is missing or not writable" in caplog.text


def test_a_file_that_cannot_be_opened_for_writing_is_read(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RecordingWriter(host.path) as before:
        before.append(moment(0), at=1e9)

    def read_only(*_: object) -> None:
        raise UsageError(f"cannot write {host.path}: Read-only file system")

    opened = RecordingWriter._open

    async def look() -> None:
        monkeypatch.setattr(RecordingWriter, "_open", read_only)
        await host.until(lambda: host.writer.recording is False)
        assert host.writer.span() == (1e9, 1e9)
        monkeypatch.setattr(RecordingWriter, "_open", opened)
        await host.until(lambda: host.writer.recording is True)
        assert host.writer.span()[1] > 1e9

    host.write_while(look)


def test_a_folder_that_is_missing_is_a_cause(host: Host, tmp_path: Path) -> None:
    gone = Host(tmp_path / "gone" / "slabs.db")
    assert gone.writer.recording is None

    async def look() -> None:
        await gone.until(lambda: gone.writer.recording is False)
        with pytest.raises(NoHistory, match=r"cannot be written: .*No such file"):
            gone.writer.span()

    gone.write_while(look)
