"""The web process's server over a synthetic host: `python -m tests.page.server SCENE PORT`."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace

from slabmon.store.codec import encode
from slabmon.web.access import Access
from slabmon.web.app import make_app
from slabmon.web.config import WebConfig
from slabmon.web.handler import Context
from slabmon.web.page import page_files
from slabmon.web.readings import Now, Reading
from slabmon.web.server import Server
from slabmon.web.settings import WebSettings
from tests.page.scenes import SCENES

FIRST_SECONDS = 60.0


class Scene:
    """A source of readings."""

    timeouts = failures = 0

    def __init__(self, name: str) -> None:
        self._scene = SCENES[name]
        self._still = name == "still"
        self._began, self._since = time.monotonic(), time.time() - FIRST_SECONDS
        self._count = 0

    async def now(self, detailed: bool = False) -> Now:
        """A fresh reading."""
        at = time.monotonic()
        found = self._scene(FIRST_SECONDS + at - self._began)
        if not self._still:
            found = replace(found, tracking=replace(found.tracking, since=self._since))
        self._count += 1
        encoded = b"" if detailed else encode(found)
        reading = Reading(self._count, time.monotonic(), 0.01, detailed, found, encoded)
        report = {"collector_cpu_seconds": at / 100, "web_cpu_seconds": at / 100,
                  "bpf_bytes": 48 << 20, "web_proportional_bytes": 30 << 20}  # fmt: skip
        return Now(reading, report)


async def main(scene: str, port: str) -> None:
    """Serves on the loopback until it is killed or its parent closes the pipe to it."""
    from tornado.netutil import bind_sockets

    settings = WebSettings()
    context = Context(settings, Access(WebConfig()), page_files())
    context.source = Scene(scene)
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
