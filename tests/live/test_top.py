# SPDX-License-Identifier: Apache-2.0
"""top in a local session: it shows this kernel, and leaves it as it was."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.live.kernel import left_behind, ours
from tests.live.workload import messages
from tests.support.pseudoterminal import on_terminal

pytestmark = pytest.mark.live


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_terminal_and_kernel_clean(number: signal.Signals) -> None:
    before = ours()
    with on_terminal("top", "-d", "0.5") as terminal:
        terminal.wait_for("growth over")  # a second reading
        assert ours()
        terminal.type("2\r")
        terminal.wait_for("stacks")
        terminal.process.send_signal(number)
        assert terminal.end() == 0
        assert terminal.restored
    assert not left_behind(before)


def test_batch_counts_a_workload_and_ends() -> None:
    before = ours()
    with messages() as queue:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "slabmon",
                "top",
                "-b",
                "-n",
                "3",
                "-d",
                "0.5",
                "--filter",
                "msg_msg",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("slabmon top - ")
        queue.churn(1013, 900)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert rest.count("slabmon top - ") == 2
    assert "msg_msg-1k" in rest
    assert not left_behind(before)


def test_a_signal_ends_batch_as_well() -> None:
    before = ours()
    process = subprocess.Popen(
        [sys.executable, "-m", "slabmon", "top", "-b", "-d", "1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("slabmon top - ")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert not left_behind(before)


def test_without_root_and_without_a_daemon_the_error_says_so() -> None:
    done = subprocess.run(
        [
            "setpriv",
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--inh-caps",
            "-all,+dac_read_search",
            "--ambient-caps",
            "-all,+dac_read_search",
            sys.executable,
            "-m",
            "slabmon",
            "top",
            "-b",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("slabmon: error: ")
    assert "root" in done.stderr
    assert done.stderr.count("\n") == 1
