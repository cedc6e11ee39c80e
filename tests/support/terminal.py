# SPDX-License-Identifier: Apache-2.0
"""top under test: a scripted source, and the text on the screen."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from rich.console import Console
from textual.pilot import Pilot

from slabmon.base.errors import UsageError
from slabmon.base.escape import printable
from slabmon.model import FeatureState, Live, ProgramCost, Release, Slabinfo, Snapshot, State
from slabmon.store.recording import TimedSnapshot
from slabmon.tui.app import TopApp
from slabmon.tui.start import Start
from tests.support.builders import Object, cache, device, site, snapshot, tracked
from tests.support.censuses import rich

EVIL = "[red]x[/red]\x1b[31m\n[/]"
OBJECTS = [
    Object(cache=0, site=0, bytes=64, age=25, stack=7),
    Object(cache=0, site=1, bytes=128, comm=b"dd", tgid=5, cgroup=2, stack=8, age=9),
    Object(cache=1, site=1, bytes=512, comm=b"dd", tgid=5, cgroup=2, stack=8, age=3),
]
STACKS = {
    7: ("__kmalloc_noprof", "alloc_pipe_info", "do_pipe2", "__x64_sys_pipe2"),
    8: ("__kmalloc_noprof", "nvme_probe [nvme]", "really_probe"),
}


def host(second: float = 10.0, **fields: Any) -> Snapshot:
    """Return a small host that has allocated for this many seconds."""
    n = int(second)
    plain = snapshot(
        caches=(
            cache(
                "kmalloc-64",
                object_size=64,
                allocs=1000 * n,
                frees=990 * n,
                requested_bytes=50_000 * n,
                allocated_bytes=64_000 * n,
                freed_bytes=63_360 * n,
                live=Live(10 * n, 640 * n, 64, 600 * n, 700 * n),
                slabinfo=Slabinfo(900, 1024, 64, 65_536),
            ),
            cache(
                "dentry",
                object_size=192,
                allocs=70 * n,
                frees=7,
                requested_bytes=13_440 * n,
                allocated_bytes=13_440 * n,
                live=Live(5, 2 << 20, 900, 1 << 20, 3 << 20),
                frees_observable=False,
                reclaimable=True,
            ),
            cache(
                "kmalloc-large",
                object_size=0,
                allocs=2,
                allocated_bytes=32_768,
                live=Live(1, 16_384, 0, 16_384, 16_384),
            ),
            cache(EVIL, object_size=32),
        ),
        sites=(
            site(
                "alloc_pipe_info",
                0x44,
                allocs=1000 * n,
                requested_bytes=50_000 * n,
                allocated_bytes=64_000 * n,
                live=Live(10 * n, 640 * n, 64, 600 * n, 700 * n),
            ),
            site(
                "nvme_probe",
                0x1C,
                "nvme",
                allocs=3,
                failed=1,
                requested_bytes=100,
                allocated_bytes=640,
                live=Live(3, 640, 0, 640, 640),
            ),
        ),
        devices=(
            device(
                name="0000:00:04.0",
                driver="nvme",
                module="nvme",
                resources=3,
                managed_bytes=400 + n,
                slab_bytes=512,
                added=4,
                removed=1,
                by_release=(
                    Release("devm_kzalloc_release", 2, 392),
                    Release("devm_irq_release", 1, 8),
                ),
                slab_by_cache={"kmalloc-192": 512},
                dma_bytes=73728,
                dma_allocs=11,
                dma_frees=2,
                dma_failed=1,
                dma_allocated_bytes=90112,
                dma_earlier_frees=3,
                dma_earlier_bytes=12288,
            ),
            device("", "loose", driver=None, module=None, slab_bytes=None),
        ),
        losses={"samples_full": 2 * n, "site_slots_full": 0},
        features={
            "kmalloc": FeatureState(State.ON, ""),
            "large_once": FeatureState(State.DEGRADED, "allocator symbols not found"),
            "pages": FeatureState(State.OFF, "not asked for"),
        },
        tracked=tracked(OBJECTS, STACKS, {1: "/", 2: "/system.slice/backup.service"}),
        programs=(ProgramCost("kmalloc", 6.5e-5, 500), ProgramCost("kfree", 4.8e-5, 400)),
        **fields,
    )
    tracking = replace(plain.tracking, seconds=second)
    return replace(plain, tracking=tracking, census=rich(second, printable(EVIL)))


class Script:
    """A source whose snapshot is `now`; if that is an exception, it is raised."""

    def __init__(self, now: Snapshot | Exception) -> None:
        self.now = now
        self.opened = self.closed = self.censuses = 0

    def __enter__(self) -> Script:
        self.opened += 1
        return self

    def __exit__(self, *exc: object) -> None:
        self.closed += 1

    def snapshot(self, details: bool = False) -> Snapshot:
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    def request_census(self) -> None:
        self.censuses += 1


class WithPast(Script):
    """A daemon that keeps history: a snapshot a minute, of what was so many seconds tracked."""

    def span(self) -> tuple[float, float]:
        return time.time() - 3600, time.time()

    def at(self, moment: float) -> TimedSnapshot:
        return TimedSnapshot(moment, host(1000 - (time.time() - moment) // 60))

    def times(self, start: float, end: float, most: int) -> list[float]:
        return [start + (end - start) * i / (most - 1) for i in range(most)]


GONE = UsageError("cannot reach slabmon at unix:/run/x: refused; is it running there?")


class Terminal:
    """The running application and its keyboard."""

    def __init__(self, app: TopApp, pilot: Pilot[int], source: Any) -> None:
        self.app, self.pilot, self.source = app, pilot, source

    async def press(self, *keys: str) -> None:
        """Press keys, and wait until everything is drawn."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        """Type text."""
        await self.press(*("space" if letter == " " else letter for letter in text))

    async def feed(self, now: Snapshot | Exception) -> None:
        """Set what the source shows, and wait until it is read."""
        self.source.now = now
        await self.read()

    async def read(self) -> None:
        """Wait for one more reading."""
        before = self.app.reading
        self.app.feed.read()
        for _ in range(500):
            await self.pilot.pause(0.01)
            if self.app.reading is not before:
                break
        await self.pilot.pause()

    @property
    def lines(self) -> list[str]:
        """The text on the screen."""
        width, height = self.app.size
        console = Console(
            width=width,
            height=height,
            file=io.StringIO(),
            record=True,
            legacy_windows=False,
            force_terminal=True,
        )
        console.print(self.app.screen._compositor.render_update(full=True))
        return [line.rstrip() for line in console.export_text().splitlines()]

    @property
    def names(self) -> list[str]:
        """The names of the rows, in their order."""
        return [self.app.browser.name(row) for row in self.app.browser.order]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def row(self, beginning: str) -> str:
        """Return the line that begins with this."""
        return next(line for line in self.lines if line.startswith(beginning))


def start(**options: Any) -> Start:
    """Return start options; the feed reads only on request."""
    return Start(
        **{"delay": 3600.0, "count": None, "view": "caches", "sort": "", "filter": "", **options}
    )


def on_terminal(
    work: Callable[[Terminal], Awaitable[None]],
    source: Any = None,
    size: tuple[int, int] = (80, 24),
    begin: Start | None = None,
    instead_of: str = "",
) -> TopApp:
    """Run top on a terminal of this size while `work` presses keys."""
    source = source or Script(host())
    app = TopApp(source, begin or start(), instead_of)
    app.open()

    async def run() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause()
            await work(Terminal(app, pilot, source))

    try:
        asyncio.run(run())
    finally:
        app.close()
    return app
