# SPDX-License-Identifier: Apache-2.0
"""Censuses of a local session: taken beside it, in the snapshots after them, ended with it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slabmon.base.errors import SlabmonError
from slabmon.census.codec import encode
from slabmon.kernel import session
from slabmon.kernel.census import run
from slabmon.kernel.census.settings import CensusSettings
from slabmon.kernel.settings import Settings
from slabmon.model import CENSUS_FEATURE, Snapshot
from slabmon.sources import request_census
from slabmon.sources.live import LiveSource
from slabmon.sources.recording import RecordingSource
from tests.support.builders import snapshot
from tests.support.censuses import rich


class FakeTracker:
    def snapshot(self, details: bool) -> Snapshot:
        return snapshot()


class FakeProcess:
    """A process that takes a census, and has sent as much as a test says."""

    started: list[FakeProcess]

    def __init__(self, settings: CensusSettings) -> None:
        self.channel, self.other = socket.socketpair()
        self.outcome: bytes | SlabmonError = encode(rich())
        self.closed = False
        self.started.append(self)

    def receive(self) -> bool:
        return not self.channel.recv(10)

    def result(self) -> bytes:
        if isinstance(self.outcome, SlabmonError):
            raise self.outcome
        return self.outcome

    def close(self) -> None:
        self.channel.close()
        self.other.close()
        self.closed = True


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[FakeProcess]:
    """The processes that were started to take censuses."""
    FakeProcess.started = []

    @contextmanager
    def open_tracker(_: Settings) -> Iterator[FakeTracker]:
        yield FakeTracker()

    monkeypatch.setattr(session, "open_tracker", open_tracker)
    monkeypatch.setattr(run, "CensusProcess", FakeProcess)
    return FakeProcess.started


def test_a_census_is_in_the_snapshots_after_it(started: list[FakeProcess]) -> None:
    with LiveSource(Settings()) as source:
        assert source.snapshot().census is None
        assert not started
        source.request_census()
        source.request_census()
        [process] = started
        process.other.sendall(b"half")
        assert source.snapshot().census is None
        process.other.close()
        assert source.snapshot().census == source.snapshot().census == rich()
        assert process.closed
        source.request_census()
        assert len(started) == 2
    assert started[1].closed


def test_why_there_is_no_census_is_told_until_there_is_one(started: list[FakeProcess]) -> None:
    with LiveSource(Settings()) as source:
        source.request_census()
        started[0].outcome = SlabmonError("census: no room")
        started[0].other.close()
        for _ in range(2):
            assert source.snapshot().features[CENSUS_FEATURE].reason == "census: no room"
        source.request_census()
        started[1].other.close()
        source.wait_for_census()
        assert source.snapshot().census == rich()
        assert CENSUS_FEATURE not in source.snapshot().features


def test_sources_that_take_no_censuses_are_not_asked() -> None:
    request_census(RecordingSource(Path("none")))
