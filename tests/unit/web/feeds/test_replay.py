# SPDX-License-Identifier: Apache-2.0
"""slabmon replay: a recording through the daemon's own pages."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tornado.httpclient import HTTPResponse
from tornado.testing import AsyncHTTPTestCase
from tornado.web import Application

from slabmon.cli.main import main
from slabmon.export.text import to_json
from slabmon.sources.recording import RecordingSource
from slabmon.store.codec import CONTENT_TYPE, decode
from slabmon.web.app import make_app
from slabmon.web.feeds.live import LiveViews
from slabmon.web.feeds.replay import ReplayedReadings
from slabmon.web.handlers.base import Context
from slabmon.web.handlers.page import page_files
from slabmon.web.serving.access import Access
from slabmon.web.serving.config import WebConfig
from slabmon.web.settings import WebSettings
from tests.support import conditions
from tests.support.censuses import TAKEN
from tests.support.recordings import START, STEP, damage, moment, record
from tests.support.snapshots import assert_same

COUNT = 70


class Replay(AsyncHTTPTestCase):
    """A server over a recording whose replay stands still until a test moves it."""

    @pytest.fixture(autouse=True)
    def recording(self, tmp_path: Path) -> None:
        self.path = record(tmp_path / "slabs.db", COUNT)

    def get_app(self) -> Application:
        self.replay = RecordingSource(self.path, 0).__enter__()
        self.addCleanup(self.replay.__exit__, None, None, None)
        context = Context(WebSettings(), Access(WebConfig()), page_files())
        context.source = context.censuses = ReplayedReadings(self.replay)
        context.past = self.replay
        return make_app(context)

    def get(self, path: str, **headers: str) -> HTTPResponse:
        return self.fetch(path, headers=headers)

    def test_every_surface_shows_the_moment_it_is_at(self) -> None:
        for number in (0, 7, COUNT - 1, 3):
            self.replay.clock.seek(START + number * STEP)
            expected = moment(number)
            document = json.loads(self.get("/api/v1/snapshot").body)
            assert document == json.loads(to_json(expected))
            encoded = self.get("/api/v1/snapshot", Accept=CONTENT_TYPE)
            assert_same(decode(encoded.body), expected)
            allocs = expected.caches[0].allocs
            metrics = self.get("/metrics").body.decode()
            assert f'allocations_total{{cache="kmalloc-64"}} {float(allocs)}\n' in metrics
            self._app.settings[
                "context"
            ].live = LiveViews()  # else a page of a second ago is as good
            page = self.get("/api/v1/table?view=caches").body.decode()
            names = [f"cache-{i}" for i in range(5) if f"cache-{i}" in page]
            assert names == [f"cache-{i}" for i in range(number % 5)]
            assert self.get("/readyz").code == 200

    def test_a_census_is_part_of_the_moments_after_it(self) -> None:
        assert self.get("/api/v1/census").code == 404
        assert b"no census yet" in self.get("/api/v1/table?view=owners").body
        self.replay.clock.seek(START + 4 * STEP)
        document = json.loads(self.get("/api/v1/census").body)
        assert document["taken"] == TAKEN + 4 * STEP
        metrics = self.get("/metrics").body.decode()
        assert 'slabmon_census_objects{cache="dentry",certainty="exact"' in metrics
        self._app.settings["context"].live = LiveViews()
        page = json.loads(self.get("/api/v1/table?view=owners").body)
        assert page["rows"][0]["texts"][0] == "struct dentry"
        assert page["view"]["note"].startswith("census of ")

    def test_a_damaged_moment_is_told_and_passed(self) -> None:
        damage(self.path, 5)
        assert self.get("/readyz").code == 200
        self.replay.clock.seek(START + 10 * STEP)
        assert self.get("/readyz").code == 503
        assert b"slabs.db" in self.get("/api/v1/snapshot").body
        assert b"slabmon_up 0.0" in self.get("/metrics").body
        self.replay.clock.seek(START + 65 * STEP)
        assert self.get("/readyz").code == 200


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    path = record(tmp_path / "slabs.db", 3)
    command = [
        sys.executable,
        "-m",
        "slabmon",
        "replay",
        str(path),
        "--speed",
        "0",
        "--start",
        f"-{STEP:g}s",
        "--web.listen-address",
        "127.0.0.1:0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert str(path) in process.stdout.readline()
            url = process.stdout.readline().split()[1]
            with urllib.request.urlopen(f"{url.rstrip('.')}api/v1/snapshot", timeout=30) as answer:
                assert json.load(answer) == json.loads(to_json(moment(1)))
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


def overview(path: Path, *options: str) -> str:
    """The first conclusion on the page of a replay."""
    command = [sys.executable, "-m", "slabmon", "replay", str(path), "--speed", "0", *options]
    command += ["--web.listen-address", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            url = process.stdout.readline().split()[1].rstrip(".")
            with urllib.request.urlopen(f"{url}api/v1/table?view=overview", timeout=30) as answer:
                note: str = json.load(answer)["view"]["note"]
            with urllib.request.urlopen(f"{url}api/v1/chart?view=caches", timeout=30) as answer:
                assert len(json.load(answer)["times"]) > 1
                return note
        finally:
            process.kill()


def test_what_a_recording_shows_is_said_by_the_first_answer(tmp_path: Path) -> None:
    paths = conditions.record(tmp_path)
    assert re.fullmatch(
        r"WARN kmalloc-1k holds 728\.0 MiB, 3\.0% of memory: .*nic_ring_fill \[nic\] in "
        r"backup\.service.*",
        overview(paths["fast-leak"]),
    )
    assert "out of memory in" in overview(paths["fast-leak"], "--start=-60s")
    assert overview(paths["healthy"]).startswith("nothing wrong; leaks: too early")


@pytest.mark.parametrize(
    "wrong",
    [
        ["none.db"],
        ["text"],
        ["--speed", "-1", "good.db"],
        ["--speed", "nan", "good.db"],
        ["--start", "noon", "good.db"],
        ["--start", "2099-01-01T00:00", "good.db"],
        ["--web.listen-address", "x", "good.db"],
        ["empty.db"],
    ],
)
def test_what_cannot_be_replayed_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    record(tmp_path / "good.db", 1)
    record(tmp_path / "empty.db", 0)
    (tmp_path / "text").write_text("hello")
    os.chdir(tmp_path)
    assert main(["replay", *wrong]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("slabmon: error: ")
    assert errors.count("\n") == 1
