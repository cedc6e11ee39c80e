# SPDX-License-Identifier: Apache-2.0
"""Which source the options choose, and that a daemon on this host comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from slabmon.cli.main import build_parser
from slabmon.cli.source_options import open_nearest
from slabmon.kernel.settings import Settings
from slabmon.runtime import listeners
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
