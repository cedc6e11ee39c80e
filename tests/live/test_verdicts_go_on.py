# SPDX-License-Identifier: Apache-2.0
"""Verdicts of the real web process go on when it is killed or replaced. Its readings are made up,
so that 25 minutes have passed."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from pathlib import Path

import pytest

from slabmon.leaks import checkpoint
from slabmon.leaks.observer import Observer
from slabmon.state.checkpoint_file import CheckpointFile
from slabmon.store.codec import encode
from slabmon.web.settings import WebSettings
from tests.live.collector import FakeCollector, wait_for
from tests.support.checkpoints import SAVED, STEP, shown, watching

pytestmark = [pytest.mark.live, pytest.mark.beside]

FOUND = [("verdicts", "leak+0x4 [mod]"), ("verdicts", "pci:hub"), ("exhausting", "msg")]


class Host:
    """A host on which an earlier web process has watched a leak until SAVED."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "web.yml"
        self.config.write_text("")
        self.collector = FakeCollector(WebSettings(user="nobody", config_file=str(self.config)))
        CheckpointFile(self.collector.checkpoint).write(checkpoint.pack(watching()))

    def read(self, seconds: float) -> None:
        """Readings are of the host as it is after so many seconds, from now on."""
        (snapshot,) = shown(begin=seconds, end=seconds)
        self.collector.body = encode(snapshot)

    def leaks(self) -> tuple[float, list[tuple[str, str]]]:
        """Return for how long growth has been watched, and what is suspected."""
        url = f"http://127.0.0.1:{self.collector.port}/api/v1/leaks"
        with urllib.request.urlopen(url, timeout=60) as answer:
            document = json.load(answer)
        kinds = ("verdicts", "exhausting")
        found = [(kind, finding["suspect"]) for kind in kinds for finding in document[kind]]
        return document["observed_seconds"], found

    def saved(self) -> float:
        """Return for how long growth has been watched, by the file."""
        observer = Observer()
        checkpoint.restore(observer, CheckpointFile(self.collector.checkpoint).read() or b"")
        return observer.observed

    def end(self, by: str) -> None:
        """End the web process, and wait for the next one."""
        old = self.collector.pid
        if by == "kill":
            os.kill(old, signal.SIGKILL)
        else:
            self.config.write_text("# changed\n")
        wait_for(lambda: self.collector.pid != old)


def test_verdicts_go_on_over_the_end_of_a_web_process(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.read(SAVED + STEP)
    with host.collector:
        assert host.leaks() == (SAVED, FOUND)
        host.read(SAVED + 2 * STEP)
        wait_for(lambda: host.saved() == SAVED + STEP)
        host.end(by="kill")
        assert host.leaks() == (SAVED + STEP, FOUND)
        host.read(SAVED + 3 * STEP)
        host.end(by="new configuration")
        wait_for(lambda: host.leaks() == (SAVED + 2 * STEP, FOUND))
