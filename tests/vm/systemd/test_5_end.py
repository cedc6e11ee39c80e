# SPDX-License-Identifier: Apache-2.0
"""Stopped, nothing of it is in the kernel; removed, nothing of it is on the disk."""

from __future__ import annotations

from pathlib import Path

from tests.live.kernel import ours
from tests.vm.systemd import host
from tests.vm.systemd.story import HOW

STATE = Path("/var/lib/slabmon")


def test_a_stop_leaves_nothing() -> None:
    assert ours()
    host.run("systemctl", "stop", "slabmon.service")
    host.wait_for(lambda: not ours(), 30)
    assert not Path("/run/slabmon/slabmon.sock").exists()
    assert host.show("ActiveState", "slabmon.socket") == "inactive"


def test_it_is_removed() -> None:
    host.run("systemctl", "start", "slabmon.service")
    host.wait_for(host.running)
    if HOW == "deb":
        host.run("dpkg", "--purge", "slabmon")
        assert not Path("/etc/slabmon").exists()
        assert not STATE.exists()
    else:
        host.run("make", "uninstall")
        assert Path("/etc/slabmon/slabmon.toml").exists()
        assert STATE.exists()
    host.wait_for(lambda: not ours(), 30)
    left = host.run(
        "find",
        "/usr",
        "/etc/systemd",
        "-path",
        "*slabmon*",
        "-not",
        "-path",
        "/usr/lib/python3/dist-packages/slabmon/*",
    )
    assert not left
    assert host.show("LoadState") == "not-found"
