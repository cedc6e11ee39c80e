# SPDX-License-Identifier: Apache-2.0
"""The web process's server over a synthetic host: `python -m tests.page.server SCENE PORT
[RECORDING]`, where the recording is the past of the host."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import bcrypt

from slabmon.base.clock import boottime
from slabmon.model import Snapshot
from slabmon.runtime.figures import DaemonFigures, MemoryFigures, ProcessMemory
from slabmon.sources import SteppedPast
from slabmon.store.recording import Recording, TimedSnapshot
from slabmon.store.settings import HistorySettings
from slabmon.web.app import make_app
from slabmon.web.feeds.history_writer import HistoryWriter
from slabmon.web.feeds.readings import SHARED_SECONDS, CensusNow, Now, Reading
from slabmon.web.handlers.base import Context
from slabmon.web.handlers.page import page_files
from slabmon.web.serving.access import Access
from slabmon.web.serving.config import WebConfig
from slabmon.web.serving.server import Server
from slabmon.web.settings import WebSettings
from tests.page.scenes import PASSWORD, SCENES, USER

FIRST_SECONDS = {"kept": 7200.0}
STEP = 10.0


class Scene:
    """A source of readings."""

    timeouts = failures = 0

    def __init__(self, name: str) -> None:
        self._scene = SCENES[name]
        self._still = name == "still"
        self._first = FIRST_SECONDS.get(name, 60.0)
        self._began, self.since = time.monotonic(), time.time() - self._first
        self._count = 0
        self._last: Reading | None = None

    def snapshot(self, seconds: float) -> Snapshot:
        """So long after tracking began."""
        found = self._scene(seconds)
        if self._still:
            return found
        return replace(found, tracking=replace(found.tracking, since=self.since))

    def want_tracking(self) -> None:
        """See ReadingSource."""

    def doubt(self, kind: str, name: str) -> bool:
        """See ReadingSource."""
        return False

    async def now(self, detailed: bool = False) -> Now:
        """A reading, shared for SHARED_SECONDS as the collector's are."""
        at = time.monotonic()
        figures = DaemonFigures(
            collector_cpu_seconds=at / 100,
            web_cpu_seconds=at / 100,
            memory=MemoryFigures(web=ProcessMemory(proportional=30 << 20), bpf_bytes=48 << 20),
        )
        last = self._last
        if last and last.age <= SHARED_SECONDS and (last.detailed or not detailed):
            return Now(last, figures, census=last.snapshot.census)
        found = self.snapshot(self._first + at - self._began)
        self._count += 1
        self._last = Reading(self._count, boottime(), 0.01, detailed, found)
        return Now(self._last, figures, census=found.census)

    async def census(self, max_age: float) -> CensusNow:
        """The scene's."""
        return CensusNow(self.snapshot(self._first).census, 1)


class Kept:
    """The history of a daemon: a snapshot in ten seconds, since tracking began."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def span(self) -> tuple[float, float]:
        """See sources.Past."""
        since = self._scene.since
        return since + STEP, since + (time.time() - since) // STEP * STEP

    def at(self, moment: float) -> TimedSnapshot:
        """See sources.Past."""
        first, last = self.span()
        taken = first + (min(max(moment, first), last) - first) // STEP * STEP
        return TimedSnapshot(taken, self._scene.snapshot(taken - self._scene.since))

    def steps(self, time: float) -> Iterator[TimedSnapshot | None]:
        """See sources.SteppedPast."""
        yield self.at(time)

    def times(self, start: float, end: float, most: int) -> list[float]:
        """See sources.Past."""
        first, last = self.span()
        begin = max(0, math.ceil((start - first) / STEP))
        count = int((min(end, last) - first) / STEP) - begin + 1
        return [first + STEP * (begin + i) for i in range(0, count, max(1, -(-count // most)))]


async def main(scene: str, port: str, recording: str = "") -> None:
    """Serves on the loopback until it is killed or its parent closes the pipe to it."""
    from tornado.netutil import bind_sockets

    settings = WebSettings()
    users = {USER: bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4))}
    config = WebConfig(users=users if scene == "secured" else {})
    context = Context(settings, Access(config), page_files())
    context.source = context.censuses = source = Scene(scene)
    nothing = HistoryWriter(HistorySettings(), source)
    past: SteppedPast = Kept(source) if scene == "kept" else nothing
    context.past = Recording(Path(recording)) if recording else past
    server = Server(make_app(context), context.connections, settings)
    sockets = bind_sockets(int(port), "127.0.0.1")
    server.listen_on(sockets)
    keeping = asyncio.create_task(context.live.keep(context.source))
    sys.stdout.write(f"{sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    keeping.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
