# SPDX-License-Identifier: Apache-2.0
"""What verdicts have watched goes from one web process to the next."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from slabmon.leaks.finding import Assessment
from slabmon.leaks.observer import Observer
from slabmon.state.checkpoint_file import CheckpointFile
from slabmon.web.feeds import live as module
from slabmon.web.feeds import verdict_state
from slabmon.web.feeds.live import LiveViews
from slabmon.web.feeds.verdict_state import SAVE_SECONDS, VerdictState
from tests.support.checkpoints import SAVED, STEP, shown, watching
from tests.support.serving import FakeSource


@pytest.fixture
def descriptor() -> Iterator[int]:
    opened = os.memfd_create("checkpoint")
    yield opened
    os.close(opened)


class Clock:
    """Moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    result = Clock()
    monkeypatch.setattr(verdict_state, "time", result)
    return result


def test_a_replaced_process_has_the_verdicts_before_its_first_answer(
    descriptor: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARED_SECONDS", -1.0)

    async def process(end: float, begin: float) -> LiveViews:
        live, source = LiveViews(), FakeSource()
        for i, source.now_is in enumerate(shown(begin=begin, end=end)):
            clock.now += STEP
            if i == 0:
                await live.resume(CheckpointFile(descriptor), source)
                assert not source.wanted, "nobody looks"
                first.append(live.assessment())
            else:
                await live._renew(source)
        return live

    first: list[Assessment] = []
    last = asyncio.run(process(SAVED, STEP)).assessment()
    asyncio.run(process(SAVED + 2 * STEP, SAVED + STEP))
    assert [f.name for f in first[0].verdicts] == []
    assert [f.name for f in first[1].verdicts] == [f.name for f in last.verdicts] != []
    assert first[1].observed == last.observed + STEP


def test_it_is_saved_as_often_as_needed(descriptor: int, clock: Clock) -> None:
    state = VerdictState(CheckpointFile(descriptor), watching(60))
    for passed, written in ((1.0, False), (SAVE_SECONDS - 1, True), (SAVE_SECONDS - 1, False)):
        os.ftruncate(descriptor, 0)
        clock.now += passed
        state.save()
        assert (os.fstat(descriptor).st_size > 0) == written


def test_what_does_not_fit_is_left_out_with_one_line(
    descriptor: int, caplog: pytest.LogCaptureFixture
) -> None:
    CheckpointFile(descriptor).write(b"something else")
    observer = Observer()
    VerdictState(CheckpointFile(descriptor), observer).restore()
    assert observer.assess() == Observer().assess()
    (line,) = caplog.messages
    assert line == (
        "verdicts begin again: what was watched before is not used: it is something else"
    )


def test_a_file_that_cannot_be_read_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    VerdictState(CheckpointFile(reader), Observer()).restore()
    os.close(reader)
    os.close(writer)
    (line,) = caplog.messages
    assert "Illegal seek" in line


def test_no_room_is_one_line_at_its_beginning_and_one_at_its_end(
    descriptor: int,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    state = VerdictState(CheckpointFile(descriptor), watching(60))
    write = os.pwrite
    for full in (True, True, False, False):

        def refuse(*_: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", refuse if full else write)
        clock.now += SAVE_SECONDS
        state.save()
    first, last = caplog.messages
    assert first.endswith("what is watched cannot be saved: No space left on device")
    assert last == "what verdicts watch is saved again"
