# SPDX-License-Identifier: Apache-2.0
"""/debug/pprof: profiles as go tool pprof, Pyroscope, Alloy and Parca fetch them."""

from __future__ import annotations

import asyncio
import gzip
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from tornado.httpclient import HTTPResponse
from tornado.testing import AsyncHTTPTestCase
from tornado.web import Application

from slabmon.export.pprof import to_pprof
from slabmon.sources.recording import RecordingSource
from slabmon.store.recording import TimedSnapshot
from slabmon.store.settings import HistorySettings
from slabmon.web.app import make_app
from slabmon.web.feeds.duty_cycle import DutyCycle
from slabmon.web.feeds.history_writer import HistoryWriter
from slabmon.web.feeds.profiles import Profiles
from slabmon.web.feeds.readings import SHARED_SECONDS, Reading
from slabmon.web.handlers.base import Context
from slabmon.web.handlers.page import page_files
from slabmon.web.serving.access import Access
from slabmon.web.serving.config import WebConfig
from slabmon.web.settings import WebSettings
from tests.support.profiles import Read
from tests.support.recordings import START, moment, record
from tests.support.reported import SOME, host
from tests.support.serving import FakeSource

PATHS = ("/debug/pprof/heap", "/debug/pprof/allocs")


class ProfileTest(AsyncHTTPTestCase):
    """A server whose host is known."""

    config = WebConfig()

    def get_app(self) -> Application:
        self.source = FakeSource()
        self.source.now_is = host(SOME)
        context = Context(WebSettings(), Access(self.config), page_files())
        context.source = self.source
        context.past = HistoryWriter(HistorySettings(), self.source)
        self.context = context
        return make_app(context)

    def get(self, path: str, **headers: str) -> HTTPResponse:
        return self.fetch(path, headers=headers, decompress_response=False)


class Profiled(ProfileTest):
    def test_both_profiles_hold_live_and_allocated_memory_and_differ_in_what_is_first(self) -> None:
        for path, first in zip(PATHS, ("inuse_space", "alloc_space"), strict=True):
            answer = self.get(path)
            assert answer.code == 200
            assert answer.headers["Content-Type"] == "application/octet-stream"
            assert path.rpartition("/")[2] in answer.headers["Content-Disposition"]
            read = Read(answer.body)
            profile = read.profile
            assert profile.string_table[profile.default_sample_type] == first
            snapshot = self.source.now_is
            assert profile.time_nanos == round(snapshot.taken * 1e9)
            live = {cache.name: cache.live.bytes for cache in snapshot.caches if cache.live.bytes}
            assert read.totals("cache", 3) == live
            allocated = {site.full_label: site.allocated_bytes for site in snapshot.sites}
            assert read.totals("site", 1) == allocated

    def test_samples_are_labelled_by_cache_module_process_and_cgroup(self) -> None:
        read = Read(self.get(PATHS[0]).body)
        stack = ("probe_card", "bus_probe", "do_init")
        labels = {row[0]: row[2] for row in read.samples if row[1][3]}[stack]
        assert labels["cache"] == "kmalloc-large"
        assert labels["module"] == "card"
        assert labels["process"] == "cat"
        assert labels["cgroup"] == "/user.slice"

    def test_the_file_is_compressed_once_whatever_the_client_accepts(self) -> None:
        for accepted in ("gzip", "identity", ""):
            answer = self.get(PATHS[0], **{"Accept-Encoding": accepted})
            assert "Content-Encoding" not in answer.headers
            assert not gzip.decompress(answer.body).startswith(b"\x1f\x8b")

    def test_parameters_of_gos_tools_do_no_harm(self) -> None:
        assert self.get(f"{PATHS[0]}?seconds=5&debug=0&gc=1").code == 200

    def test_without_a_fresh_reading_there_is_no_profile(self) -> None:
        self.source.problem = "no reading within 1 s"
        answer = self.get(PATHS[0])
        assert (answer.code, answer.headers["Retry-After"]) == (503, "1")
        assert b"no reading" in answer.body

    def test_other_profiles_and_a_past_that_is_not_kept_are_not_found(self) -> None:
        assert self.get("/debug/pprof/profile").code == 404
        assert self.get(f"{PATHS[0]}?at=-10m").code == 404
        assert self.get(f"{PATHS[0]}?at=soon").code == 400

    def test_head_has_no_body(self) -> None:
        answer = self.fetch(PATHS[0], method="HEAD", decompress_response=False)
        assert (answer.code, answer.body) == (200, b"")

    def test_too_many_requests_are_refused(self) -> None:
        async def refuse(*_: object) -> bytes:
            raise TimeoutError

        self.context.profiles.present = refuse  # type: ignore[assignment]  # never returns
        assert self.get(PATHS[0]).code == 503


class WithPassword(ProfileTest):
    config = WebConfig(users={"u": bcrypt.hashpw(b"p", bcrypt.gensalt(4))})

    def test_a_profile_needs_the_password_as_all_data_do(self) -> None:
        assert self.get(PATHS[0]).code == 401
        answer = self.fetch(
            PATHS[0], auth_username="u", auth_password="p", decompress_response=False
        )
        assert answer.code == 200


class WithHistory(ProfileTest):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = record(tmp_path / "slabs.db", 5)

    def test_a_past_moment_is_profiled_as_it_was(self) -> None:
        with RecordingSource(self.path) as past:
            self.context.past = past
            answer = self.get(f"{PATHS[0]}?at={START + 1:.3f}")
        assert answer.code == 200
        assert answer.body == to_pprof(TimedSnapshot(START, moment(0)), None)


def reading(number: int) -> Reading:
    snapshot = host(SOME)
    return Reading(number, time.monotonic(), 0.0, True, snapshot)


def test_a_profile_is_made_once_for_all_requests_of_a_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []
    make = Profiles.make

    async def counted(*arguments: Any) -> bytes:
        made.append(arguments)
        return await make(*arguments)

    monkeypatch.setattr(Profiles, "make", counted)

    async def ask() -> None:
        cache = Profiles(DutyCycle())
        now = reading(1)
        asked = [cache.present(now, "live", f"10.0.0.{i}") for i in range(20)]
        assert len(set(await asyncio.gather(*asked))) == 1
        assert len(made) == 1
        await cache.present(now, "allocated", "")
        assert len(made) == 2
        await cache.present(replace(now, number=2), "live", "")
        assert len(made) == 2, "for half a second at least"
        await asyncio.sleep(SHARED_SECONDS + 0.2)
        await cache.present(replace(now, number=2), "live", "")
        assert len(made) == 3

    asyncio.run(ask())
