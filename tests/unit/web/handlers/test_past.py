# SPDX-License-Identifier: Apache-2.0
"""The daemon's history: kept by the web process, answered over HTTP."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pwd
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httpclient import HTTPResponse
from tornado.testing import AsyncHTTPTestCase
from tornado.web import Application

from slabmon.base.clock import boottime
from slabmon.base.errors import UsageError
from slabmon.export.census import to_json as census_json
from slabmon.export.text import to_json
from slabmon.store.codec import CONTENT_TYPE, decode
from slabmon.store.recording import Recording
from slabmon.store.settings import HistorySettings
from slabmon.store.writer import RecordingWriter
from slabmon.web.app import make_app
from slabmon.web.feeds import history_writer
from slabmon.web.feeds.history_writer import HistoryWriter
from slabmon.web.feeds.readings import Now, Reading
from slabmon.web.handlers.base import Context
from slabmon.web.handlers.page import page_files
from slabmon.web.serving.access import Access
from slabmon.web.serving.config import WebConfig
from slabmon.web.settings import ProcessSettings, WebSettings
from tests.support.censuses import rich
from tests.support.memory import TOTAL, reading, scan
from tests.support.recordings import START, STEP, damage, moment, record
from tests.support.snapshots import assert_same


class Readings:
    """Readings as the collector would give them, some of them failing."""

    timeouts = failures = 0

    def __init__(self) -> None:
        self.asked = 0
        self.fails: set[int] = set()

    def want_tracking(self) -> None:
        pass

    def doubt(self, kind: str, name: str) -> bool:
        return False

    async def now(self, detailed: bool = False) -> Now:
        assert detailed
        number = self.asked
        self.asked += 1
        if number in self.fails:
            return Now(None, None, "no reading")
        snapshot = moment(number)
        return Now(Reading(number, boottime(), 0.0, True, snapshot), None)


def kept(path: Path) -> int:
    with Recording(path) as found:
        return len(found.times())


async def keep(settings: HistorySettings, readings: Readings, rounds: int) -> HistoryWriter:
    """Runs a writer for so many readings, with no more between them than two moments differ by."""
    writer = HistoryWriter(settings, readings)
    real = asyncio.sleep

    async def sleep(_: float) -> None:
        if readings.asked >= rounds:
            raise asyncio.CancelledError
        await real(0.002)  # recordings keep milliseconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        with pytest.raises(asyncio.CancelledError):
            await writer.run()
    return writer


def test_readings_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "slabs.db"
    readings = Readings()
    readings.fails = {1, 2}
    writer = asyncio.run(keep(HistorySettings(str(path)), readings, 5))
    try:
        assert kept(path) == 3
        first, last = writer.span()
        assert_same(writer.at(last).snapshot, moment(4))
        assert_same(writer.at(first).snapshot, moment(0))
    finally:
        writer.close()


def test_without_a_path_nothing_is_asked_for() -> None:
    readings = Readings()
    asyncio.run(HistoryWriter(HistorySettings(), readings).run())
    assert readings.asked == 0


def test_a_file_that_another_has_is_taken_over_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "slabs.db"
    readings = Readings()
    settings = HistorySettings(str(path))
    with RecordingWriter(path):
        asyncio.run(keep(settings, readings, 4)).close()
        assert caplog.text.count("another process records") == 1
    asyncio.run(keep(settings, readings, 6)).close()
    assert kept(path) == 2


def test_settings_travel_to_the_web_process() -> None:
    web, kept = WebSettings(user="nobody"), HistorySettings("/x", 5, "1h", "2M")
    line = ProcessSettings.of(web, kept).packed()
    assert line.count(b"\n") == 1
    assert ProcessSettings.unpack(line) == ProcessSettings.of(web, kept)
    assert ProcessSettings.unpack(web.packed()).history == HistorySettings()
    assert ProcessSettings.unpack(web.packed(replacement=True)).replacement


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"path": "x.db"}, "path"),
        ({"interval_seconds": 0}, "interval_seconds"),
        ({"keep": "x"}, "keep"),
        ({"max_size": "x"}, "max_size"),
        ({"max_size": "1K"}, "max_size"),
    ],
)
def test_wrong_settings_name_their_key(fields: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=rf"^{says}\b"):
        HistorySettings(**fields)  # type: ignore[arg-type]


def test_the_directory_is_made_for_the_user(tmp_path: Path) -> None:
    own = pwd.getpwuid(os.getuid())
    settings = HistorySettings(str(tmp_path / "history" / "slabs.db"))
    history_writer.prepare(settings, own)
    history_writer.prepare(settings, own)
    history_writer.check(settings)
    assert (tmp_path / "history").stat().st_mode & 0o777 == 0o750


def test_a_directory_that_cannot_be_is_one_clear_error(tmp_path: Path) -> None:
    settings = HistorySettings(str(tmp_path / "none" / "history" / "slabs.db"))
    with pytest.raises(UsageError, match=r"history\.path"):
        history_writer.prepare(settings, pwd.getpwuid(os.getuid()))
    with pytest.raises(UsageError, match=r"history\.path"):
        history_writer.check(settings)
    history_writer.prepare(HistorySettings(), pwd.getpwuid(os.getuid()))
    history_writer.check(HistorySettings())


@pytest.mark.parametrize("kind", ["text", "directory", "empty", "recording", "damaged"])
def test_a_file_that_is_no_recording_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "slabs.db"
    if kind == "directory":
        path.mkdir()
    elif kind in ("text", "empty"):
        path.write_text("a diary\n" * 100 * (kind == "text"))
    else:
        record(path, 3)
    if kind == "damaged":  # which the daemon survives, since disks fail
        path.write_bytes(path.read_bytes()[:-2048])
    if kind in ("text", "directory"):
        with pytest.raises(UsageError, match=r"history\.path: .*slabs\.db is not .*; name another"):
            history_writer.check(HistorySettings(str(path)))
    else:
        history_writer.check(HistorySettings(str(path)))


@pytest.mark.parametrize("mode", [os.ST_RDONLY, 0])
@pytest.mark.parametrize("what", ["slabs.db", ""])
def test_what_cannot_be_written_gets_advice_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, what: str
) -> None:
    path = record(tmp_path / "slabs.db", 1)
    monkeypatch.setattr(os, "access", lambda asked, _: asked != tmp_path / what)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=mode))
    with pytest.raises(UsageError, match=rf"history\.path: .*{what}") as raised:
        history_writer.check(HistorySettings(str(path)))
    assert ("read-only file system" in str(raised.value)) == bool(mode)
    assert ("make web.user its owner" in str(raised.value)) != bool(mode)


def test_a_directory_on_a_read_only_file_system_is_not_to_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    settings = HistorySettings(str(tmp_path / "history" / "slabs.db"))
    with pytest.raises(UsageError, match="Read-only file system; name a path elsewhere"):
        history_writer.prepare(settings, pwd.getpwuid(os.getuid()))


def test_a_directory_that_may_not_be_given_away_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chown", refuse)
    folder = tmp_path / "history"
    with pytest.raises(UsageError, match=f"install -d .* {folder}"):
        history_writer.prepare(HistorySettings(f"{folder}/slabs.db"), pwd.getpwuid(os.getuid()))
    assert not folder.exists()


def help_of(shown: dict[str, Any], name: str) -> str:
    """Return the explanation of a fact of the header."""
    text: str = {fact["name"]: fact["help"] for fact in shown["header"]["facts"]}[name]
    return text


class Answers(AsyncHTTPTestCase):
    """The API over a daemon's recording."""

    @pytest.fixture(autouse=True)
    def recording(self, tmp_path: Path) -> None:
        self.path = record(tmp_path / "slabs.db", 7)

    def get_app(self) -> Application:
        context = Context(WebSettings(), Access(WebConfig()), page_files())
        context.source = readings = Readings()
        context.past = self.writer = HistoryWriter(HistorySettings(str(self.path)), readings)
        self.addCleanup(self.writer.close)
        return make_app(context)

    def get(self, path: str, **headers: str) -> HTTPResponse:
        return self.fetch(path, headers=headers)

    def test_the_past_is_answered(self) -> None:
        self.writer._opened()
        span = json.loads(self.get("/api/v1/history").body)
        assert span == {"first": START, "last": START + 6 * STEP}
        for number in (0, 6, 3):
            path = f"/api/v1/snapshot?at={START + number * STEP + 1}"
            assert json.loads(self.get(path).body) == json.loads(to_json(moment(number)))
            assert_same(decode(self.get(path, Accept=CONTENT_TYPE).body), moment(number))
        assert self.get("/api/v1/snapshot?at=2023-11-14T22:13:20%2B00:00").code == 200

    def test_a_past_census_is_answered(self) -> None:
        self.writer._opened()
        for number in (1, 6):
            answer = self.get(f"/api/v1/census?at={START + number * STEP + 1}")
            census = moment(number).census
            assert census is not None
            assert json.loads(answer.body) == json.loads(census_json(census))
            assert answer.headers["Slabmon-Time"] == f"{START + number * STEP:.3f}"
        before = self.get(f"/api/v1/census?at={START + 1}")
        assert (before.code, before.reason) == (
            404,
            "no census had been taken at this moment of the history",
        )

    def test_past_memory_is_answered(self) -> None:
        writer = self.writer._opened()
        assert self.get(f"/api/v1/memory?at={START + 61}").code == 404
        census = replace(rich(), memory=scan())
        plain = replace(moment(7), memory=reading(), census=census)
        writer.append(plain, START + 7 * STEP)
        writer.append(replace(moment(8), memory=reading(), census=None), START + 8 * STEP)
        for number, kernel_pages in ((7, True), (8, False)):
            document = json.loads(self.get(f"/api/v1/memory?at={START + number * STEP}").body)
            rows = {row["name"]: row["bytes"] for row in document["rows"]}
            assert sum(rows.values()) + document["unaccounted_bytes"] == TOTAL
            assert ("kernel_pages" in rows) == kernel_pages
            assert document["host"]["release"] == plain.host.release

    def test_a_damaged_snapshot_is_named_and_others_are_answered_without_it(self) -> None:
        damage(self.path, 3)  # and what builds on it
        self.writer._opened().append(moment(7), START + 7 * STEP)
        for path in ("snapshot", "leaks", "census", "memory", "table", "chart", "table.csv"):
            answer = self.get(f"/api/v1/{path}?at={START + 3 * STEP}")
            assert answer.code == 410, path
            assert b"slabs.db, snapshot 4: " in answer.body
        leaks = json.loads(self.get(f"/api/v1/leaks?at={START + 7 * STEP}").body)
        assert leaks["observed_seconds"] > 2 * STEP  # a pause counts less
        shown = json.loads(self.get(f"/api/v1/table?at={START + 7 * STEP}").body)
        assert "growth over 1m10s" in help_of(shown, "events")
        chart = json.loads(self.get(f"/api/v1/chart?view=caches&at={START + 7 * STEP}").body)
        assert len(chart["times"]) == 3

    def test_past_and_age_exclude_each_other(self) -> None:
        self.writer._opened()
        for path in ("census", "memory"):
            answer = self.get(f"/api/v1/{path}?at={START + 61}&max_age=5")
            assert (answer.code, answer.reason) == (
                400,
                "max_age is of the present, at of the past; use one",
            )
            assert self.get(f"/api/v1/{path}?at=soon").code == 400

    def test_moments_in_between_are_told(self) -> None:
        self.writer._opened()
        path = f"/api/v1/history?from={START + 5}&to={START + 45}&most="
        assert json.loads(self.get(f"{path}9").body)["times"] == [
            START + number * STEP for number in (1, 2, 3, 4)
        ]
        assert json.loads(self.get(f"{path}2").body)["times"] == [START + 10, START + 40]
        for wrong in ("1", "1001", "x", "nan"):
            assert self.get(f"{path}{wrong}").code == 400
        assert self.get("/api/v1/history?from=5").code == 400

    def test_the_page_is_shown_what_was(self) -> None:
        self.writer._opened()
        for number in (3, 6, 3):
            at = START + number * STEP + 1
            shown = json.loads(self.get(f"/api/v1/table?view=caches&sort=name&at={at}").body)
            names = [row["key"] for row in shown["rows"]]
            assert [f"cache-{i}" for i in range(number % 5)] == names[: number % 5]
            assert shown["history"] == [START, START + 6 * STEP]
            facts = {fact["name"]: fact["text"] for fact in shown["header"]["facts"]}
            assert facts["tracking"] == f"{12.5 + number * STEP:g}s" or number == 6
            assert "daemon" not in facts  # what it cost then is not recorded
            assert "growth over" in help_of(shown, "events")
            chart = json.loads(self.get(f"/api/v1/chart?view=caches&at={at}").body)
            assert len(chart["times"]) == 7  # all there is of that hour
        rows = json.loads(self.get(f"/api/v1/table.json?view=caches&at={START}").body)
        assert {row["allocs"] for row in rows} == {c.allocs for c in moment(0).caches}
        leaks = json.loads(self.get(f"/api/v1/leaks?at={START + 35}").body)
        assert leaks["observed_seconds"] == 3 * STEP

    def test_the_page_without_history(self) -> None:
        assert b"not open yet" in self.get("/api/v1/table?at=5").body
        self.writer._settings = HistorySettings()
        for path in ("table?at=5", "chart?at=5", "leaks?at=5", "census?at=5", "memory?at=5"):
            answer = self.get(f"/api/v1/{path}")
            assert answer.code == 404
            assert b"history.path" in answer.body
        for path in ("table", "chart", "leaks"):
            assert self.get(f"/api/v1/{path}?at=soon").code == 400

    def test_a_page_that_is_paused_keeps_its_moment(self) -> None:
        live = self._app.settings["context"].live
        first = json.loads(self.get("/api/v1/table").body)
        at = first["header"]["at"]

        def later() -> None:  # as if a shared window had become too old
            live._at -= 60

        for _ in range(5):
            later()
            held = json.loads(self.get(f"/api/v1/table?at={at}").body)
            assert held["header"]["at"] == at
            assert held["rows"] == first["rows"]
            assert json.loads(self.get("/api/v1/table").body)["header"]["at"] > at

    def test_what_is_no_time_is_refused(self) -> None:
        answer = self.get("/api/v1/snapshot?at=no%0don")
        assert answer.code == 400
        assert answer.body.startswith(b"400 invalid time 'no\\ron': expected 03:00")

    def test_without_a_history_there_is_none(self) -> None:
        self.writer._settings = HistorySettings()
        for path in ("/api/v1/history", "/api/v1/snapshot?at=0"):
            answer = self.get(path)
            assert answer.code == 404
            assert b"history.path" in answer.body
