# SPDX-License-Identifier: Apache-2.0
"""The web process: it handles everything clients send, and holds no privilege.

The collector starts it with the file descriptors of what verdicts have watched, of the channel and
of the listening sockets. It imports, reads its configuration, drops its privileges, and only then
serves.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slabmon.base.errors import SlabmonError, UsageError, of_environment
from slabmon.runtime.channel import MAX_JSON, ORPHAN_SECONDS, Started
from slabmon.runtime.logs import LogSettings, set_up
from slabmon.runtime.tuning import (
    RELEASE_SECONDS,
    limit_malloc_caching,
    name_process,
    raise_gc_threshold,
    release_memory,
)
from slabmon.state.checkpoint_file import CheckpointFile
from slabmon.store.settings import HistorySettings
from slabmon.web.app import make_app
from slabmon.web.feeds import history_writer
from slabmon.web.feeds.readings import Channel
from slabmon.web.handlers.base import Context
from slabmon.web.handlers.page import page_files
from slabmon.web.serving import privileges
from slabmon.web.serving.access import Access
from slabmon.web.serving.config import WebConfig, load
from slabmon.web.serving.server import Server
from slabmon.web.serving.tls import make_context
from slabmon.web.settings import ProcessSettings

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Run until the collector ends this process. Returns the exit code."""
    # A signal that the collector's parent ignored (nohup: SIGHUP) stays ignored over exec.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_DFL)
    set_up(LogSettings())
    limit_malloc_caching()
    raise_gc_threshold()
    name_process("slabmon-web")
    # Errors of clients are counted, not logged: clients could fill the log.
    logging.getLogger("tornado.general").setLevel(logging.ERROR)
    checkpoint = CheckpointFile(int(arguments[0]))
    channel, *listeners = (socket.socket(fileno=int(number)) for number in arguments[1:])
    config = WebConfig()
    try:
        settings = ProcessSettings.unpack(_line(channel))
        user = privileges.find_user(settings.user)
        config = load(Path(settings.config_file)) if settings.config_file else config
        if config.users:
            import slabmon.web.serving.auth  # noqa: F401  # its files may not be readable later
        tls = make_context(config.tls) if config.tls else None
        files = page_files()
        with _tolerant(settings):
            history_writer.prepare(settings.history, user)
        privileges.drop(user)
        with _tolerant(settings):
            history_writer.check(settings.history)
        context = Context(settings, Access(config), files)
        privileges.limit(settings.max_connections)
    except (SlabmonError, OSError) as raised:
        error = raised if isinstance(raised, SlabmonError) else of_environment(raised)
        if error is None:
            raise
        _report(channel, Started(config.files, str(error), error.exit_code))
        return error.exit_code
    if not _report(channel, Started(config.files, tls=tls is not None)):
        return SlabmonError.exit_code
    asyncio.run(serve(context, settings.history, checkpoint, tls, channel, listeners))
    return 0


def _report(channel: socket.socket, started: Started) -> bool:
    """Tell the collector the outcome of the start; return whether it is still there."""
    try:
        channel.sendall(started.pack())
    except ConnectionError:
        return False
    return True


@contextmanager
def _tolerant(settings: ProcessSettings) -> Iterator[None]:
    """Let a replacement start without its history, which is retried and logged while it serves."""
    try:
        yield
    except UsageError:
        if not settings.replacement:
            raise


def _line(channel: socket.socket) -> bytes:
    """Read the settings: one line, after which the collector waits for our answer."""
    data = b""
    while not data.endswith(b"\n") and len(data) < MAX_JSON:
        piece = channel.recv(4096)
        if not piece:
            break
        data += piece
    return data


async def serve(
    context: Context,
    history_settings: HistorySettings,
    checkpoint: CheckpointFile,
    tls: ssl.SSLContext | None,
    channel: socket.socket,
    listeners: list[socket.socket],
) -> None:
    """Serve from the first reading until retired, or until the collector is gone for
    ORPHAN_SECONDS."""
    retired = asyncio.Event()
    reader, writer = await asyncio.open_unix_connection(sock=channel, limit=1 << 20)
    readings = Channel(reader, writer, context.settings.budget_seconds, retired.set)
    await readings.first()
    now = await readings.now()
    if now.reading is not None:
        for problem in context.settings.choice.unmatched(now.reading.snapshot.caches):
            log.warning("%s", problem)
    context.source = context.censuses = readings
    context.past = context.history = history = history_writer.HistoryWriter(
        history_settings, readings
    )
    # Before it listens: the first answer has the verdicts that the last process gave.
    await context.live.resume(checkpoint, readings)
    works = (history.run(), context.live.keep(readings), _release_memory())
    tasks = [asyncio.create_task(work) for work in works]
    server = Server(make_app(context), context.connections, context.settings, tls)
    server.listen_on(listeners)
    ends = [asyncio.create_task(event.wait()) for event in (retired, readings.closed)]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if not retired.is_set():
        log.error("the collector is gone: serving old figures, exiting in %g s", ORPHAN_SECONDS)
        await asyncio.sleep(ORPHAN_SECONDS)
    await server.drain()
    for task in tasks:
        task.cancel()
    history.close()
    readings.close()


async def _release_memory() -> None:
    while True:
        await asyncio.sleep(RELEASE_SECONDS)
        release_memory()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
