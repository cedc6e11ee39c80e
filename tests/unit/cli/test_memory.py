# SPDX-License-Identifier: Apache-2.0
"""The memory command, given struct pages."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable

import pytest

from slabmon.base.errors import UnsupportedHost
from slabmon.census.model import Census
from slabmon.cli import daemon_answer
from slabmon.cli.main import main
from slabmon.kernel.census import run
from slabmon.kernel.census.settings import CensusSettings
from slabmon.kernel.memory.reading import MemoryReader
from slabmon.memory.ledger import Ledger, account
from slabmon.memory.reading import MemoryReading
from slabmon.sources.daemon import DaemonSource, NotReady
from tests.support.memory import TOTAL, reading, scan
from tests.unit.export.test_census import CENSUS
from tests.unit.export.test_memory import LEDGER


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    def take_census(
        _: CensusSettings, progress: Callable[[float], object], *, pages_only: bool
    ) -> Census:
        assert pages_only
        progress(0.5)
        return dataclasses.replace(CENSUS, memory=scan())

    monkeypatch.setattr(run, "take_census", take_census)
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.mark.usefixtures("root")
def test_each_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory"]) == 0
    assert capsys.readouterr().out.startswith("MEMORY")
    assert main(["memory", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("kind,name,bytes,")
    assert main(["memory", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["total_bytes"] == TOTAL
    assert document["host"]["release"] == CENSUS.host.release


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("reason", ["no BTF", ""])
def test_without_struct_pages_the_counters_remain(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    def take_census(*_: object, pages_only: bool) -> Census:
        if reason:
            raise UnsupportedHost(reason)
        return CENSUS

    def read(_: MemoryReader) -> MemoryReading:
        return reading()

    monkeypatch.setattr(run, "take_census", take_census)
    monkeypatch.setattr(MemoryReader, "read", read)
    assert main(["memory", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["unaccounted_bytes"] == account(reading()).unaccounted_bytes
    (limit,) = (text for text in document["limits"] if (reason or "members of struct page") in text)
    assert reason or limit.endswith("please report this kernel")


def test_without_root_it_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["memory"]) == 3
    assert "needs root" in capsys.readouterr().err


def test_a_daemon_is_asked_until_it_has_read_struct_pages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Ledger | NotReady] = [NotReady("503 a census is being taken", 1), LEDGER]

    def memory(_: DaemonSource) -> Ledger:
        answer = answers.pop(0)
        if isinstance(answer, NotReady):
            raise answer
        return answer

    monkeypatch.setattr(DaemonSource, "memory", memory)
    monkeypatch.setattr(daemon_answer, "AGAIN_SECONDS", 0)
    assert main(["memory", "--connect", "http://127.0.0.1:1"]) == 0
    assert "UNACCOUNTED" in capsys.readouterr().out
    answers.append(NotReady("503 the counters could not be read", 60))
    assert main(["memory", "--connect", "http://127.0.0.1:1"]) == 2
    assert "could not be read" in capsys.readouterr().err


@pytest.mark.usefixtures("root")
def test_cpu_time_is_bounded_and_of_a_local_reading(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "--cpu-seconds", "2.5"]) == 0
    capsys.readouterr()
    assert main(["memory", "--cpu-seconds", "0"]) == 2
    assert "cpu_seconds is 0" in capsys.readouterr().err
    assert main(["memory", "--cpu-seconds", "2", "--connect", "http://127.0.0.1:1"]) == 2
    assert "--cpu-seconds configures a local session" in capsys.readouterr().err
