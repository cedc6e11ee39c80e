# SPDX-License-Identifier: Apache-2.0
"""Counting continues over everything that ends a daemon, and nothing is counted twice."""

from __future__ import annotations

import os
import signal

import pytest

from tests.vm.systemd import host
from tests.vm.systemd.story import DROP_INS, HOW, Story, main_pid

RESTART, CRASH, HANG, UPGRADE = 2003, 499, 1511, 997  # primes


def test_a_restart_goes_on_counting(story: Story) -> None:
    old = main_pid()
    host.run("systemctl", "restart", "slabmon.service")
    assert main_pid() != old
    story.send(RESTART)
    story.check_that_counting_went_on()
    assert "counters continue" in host.journal()


def test_kill_9_goes_on_counting(story: Story) -> None:
    old = main_pid()
    os.kill(old, signal.SIGKILL)
    story.send(CRASH)  # no daemon runs, or is just starting
    host.wait_for(lambda: host.running() and main_pid() != old)
    story.check_that_counting_went_on()
    assert "code=killed, status=9/KILL" in host.journal()


def test_the_watchdog_ends_a_daemon_that_hangs(story: Story) -> None:
    drop_in = DROP_INS / "watchdog.conf"
    drop_in.write_text("[Service]\nWatchdogSec=20\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "slabmon.service")
    old = main_pid()
    os.kill(old, signal.SIGSTOP)
    story.send(HANG)
    host.wait_for(lambda: host.running() and main_pid() != old)
    assert "Watchdog timeout" in host.journal()
    story.check_that_counting_went_on()
    drop_in.unlink()
    host.run("systemctl", "daemon-reload")


@pytest.mark.skipif(HOW != "deb", reason="a package is upgraded")
def test_an_upgrade_goes_on_counting(story: Story) -> None:
    old = main_pid()
    host.install_package()
    assert main_pid() != old
    story.send(UPGRADE)
    story.check_that_counting_went_on()


def test_a_second_daemon_is_refused() -> None:
    said = host.run("slabmon", "serve", check=False)
    assert f"process {main_pid()} " in said
