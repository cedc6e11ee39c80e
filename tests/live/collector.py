# SPDX-License-Identifier: Apache-2.0
"""A collector without a kernel side: the real web process, fed with made-up readings."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from slabmon.daemon.spawn import spawn
from slabmon.daemon.supervisor import Supervisor
from slabmon.daemon.web_process import WebProcess
from slabmon.runtime.channel import WANTED, Answer
from slabmon.runtime.event_loop import EventLoop
from slabmon.runtime.figures import DaemonFigures
from slabmon.store.codec import encode
from slabmon.web.settings import WebSettings
from tests.support.builders import snapshot

PATIENCE = 60.0
T = TypeVar("T")


class FakeCollector:
    """Runs loop and supervisor in a thread. `behave` answers a command; it can be changed."""

    def __init__(self, settings: WebSettings, local: Path | None = None) -> None:
        self.body = encode(snapshot())
        self.behave: Callable[[WebProcess, bytes], None] = self.answer
        self._listeners = [socket.create_server(("127.0.0.1", 0), backlog=1024)]
        self.port = self._listeners[0].getsockname()[1]
        if local:
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(str(local))
            sock.listen()
            self._listeners.append(sock)
        self.checkpoint = os.memfd_create("checkpoint")
        self.loop = EventLoop()
        self.supervisor = Supervisor(
            self.loop,
            settings,
            self._listeners,
            lambda *command: self.behave(*command),
            lambda _: None,
            lambda _: None,
            partial(spawn, self.checkpoint),
        )
        self._thread = threading.Thread(target=self._run)

    def answer(self, process: WebProcess, command: bytes) -> None:
        if command == WANTED:
            return
        supervisor = self.supervisor
        figures = DaemonFigures(
            web_restarts=supervisor.restarts,
            web_configuration_failed=supervisor.configuration_failed,
        )
        process.answer(Answer(command, True, figures, self.body))

    def _run(self) -> None:
        self.loop.run()
        self.supervisor.close()

    @property
    def pid(self) -> int:
        """Of the web process that serves."""
        return wait_for(lambda: self.supervisor.pid)

    def __enter__(self) -> FakeCollector:
        self.supervisor.wait_until_started()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.loop.every(0, self.loop.stop)
        self.loop._wake.send(b"\xff")
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        for sock in self._listeners:
            sock.close()
        os.close(self.checkpoint)
        self.loop.close()


def wait_for(get: Callable[[], T | None]) -> T:
    """What `get` gives as soon as it gives something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := get()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found
