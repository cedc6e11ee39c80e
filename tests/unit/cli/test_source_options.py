# SPDX-License-Identifier: Apache-2.0
"""Which source the options choose, and that a daemon on this host comes first."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.cli import leaks
from slabmon.cli.main import build_parser, main
from slabmon.cli.source_options import open_nearest
from slabmon.kernel.settings import Settings
from slabmon.runtime import listeners
from slabmon.sources import SnapshotSource, daemon
from slabmon.sources.daemon import DaemonSource
from slabmon.sources.live import LiveSource
from slabmon.sources.recording import RecordingSource
from tests.support.builders import snapshot
from tests.support.recordings import record


@pytest.mark.parametrize("command", ["top", "report"])
def test_a_daemon_on_this_host_comes_before_programs_of_its_own(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    options = build_parser().parse_args([command])
    monkeypatch.setattr(listeners, "DEFAULT_SOCKET", "/absent/socket")
    assert isinstance(open_nearest(options, Settings()), LiveSource)
    monkeypatch.setattr(DaemonSource, "snapshot", lambda *_: snapshot())
    found = open_nearest(options, Settings())
    assert isinstance(found, DaemonSource)
    assert found.url == "unix:/absent/socket"


@pytest.mark.parametrize("command", ["top", "report"])
def test_the_source_that_is_named_is_taken(tmp_path: Path, command: str) -> None:
    recording = str(record(tmp_path / "slabs.db", 1))
    named = build_parser().parse_args([command, "--replay", recording])
    assert isinstance(open_nearest(named, Settings()), RecordingSource)
    connected = build_parser().parse_args([command, "--connect", "http://127.0.0.1:1"])
    assert isinstance(open_nearest(connected, Settings()), DaemonSource)


@pytest.fixture
def silent_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A daemon that is stopped: it listens at the default socket, and does not answer."""
    monkeypatch.setattr(listeners, "DEFAULT_SOCKET", str(tmp_path / "socket"))
    monkeypatch.setattr(daemon, "TIMEOUT_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(listeners.DEFAULT_SOCKET)
        listener.listen()
        yield


@pytest.mark.usefixtures("silent_daemon")
def test_a_daemon_that_does_not_answer_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = open_nearest(build_parser().parse_args(["top"]), Settings())
    assert isinstance(found, LiveSource)
    assert "timed out" in found.instead_of
    assert capsys.readouterr().err == (
        f"slabmon: warning: watching in a local session instead: {found.instead_of}\n"
    )


@pytest.mark.usefixtures("silent_daemon")
def test_a_daemon_that_does_not_answer_is_an_error_without_root(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(SlabmonError, match="timed out"):
        open_nearest(build_parser().parse_args(["top"]), Settings())
    assert capsys.readouterr().err == ""


def test_a_daemon_that_is_not_there_is_not_mentioned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = build_parser().parse_args(["top"])
    gone = tmp_path / "gone"
    with socket.socket(socket.AF_UNIX) as listener:  # of a daemon that was killed
        listener.bind(str(gone))
    for path in ("/absent/socket", str(gone)):
        monkeypatch.setattr(listeners, "DEFAULT_SOCKET", path)
        found = open_nearest(options, Settings())
        assert isinstance(found, LiveSource)
        assert found.instead_of == ""
    assert capsys.readouterr().err == ""


def test_leaks_asks_the_daemon_on_this_host_for_its_verdicts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def answer(source: DaemonSource, share: float) -> dict[str, float]:
        asked.append(source.url)
        return {"share_of_memory": share}

    monkeypatch.setattr(listeners, "DEFAULT_SOCKET", "/absent/socket")
    monkeypatch.setattr(DaemonSource, "leaks", answer)
    assert main(["leaks", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"share_of_memory": 0.1}
    assert set(asked) == {"unix:/absent/socket"}


@pytest.mark.parametrize(("error", "warned"), [("timed out", True), ("refused", False)])
def test_leaks_without_an_answer_watches_in_a_local_session(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: str,
    warned: bool,
) -> None:
    def refuse(*_: object) -> None:
        raise UsageError(error) if warned else daemon.NoDaemon(error)

    def watch(source: SnapshotSource, *_: object) -> dict[str, object]:
        watched.append(source)
        return {}

    watched: list[SnapshotSource] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(DaemonSource, "leaks", refuse)
    monkeypatch.setattr(leaks, "_watched", watch)
    assert main(["leaks", "--format", "json"]) == 0
    assert isinstance(watched[0], LiveSource)
    assert ("local session instead: timed out" in capsys.readouterr().err) == warned
