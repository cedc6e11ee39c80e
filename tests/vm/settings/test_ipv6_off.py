# SPDX-License-Identifier: Apache-2.0
"""A kernel without IPv6: what listens on all interfaces listens on those of IPv4."""

from __future__ import annotations

import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.live.daemon import Daemon, free_port
from tests.vm.guest.test_lifecycle import SLABMON
from tests.vm.settings.boot import require_argument

require_argument("ipv6.disable=1")


def test_this_kernel_has_no_ipv6() -> None:
    with pytest.raises(OSError, match="Address family not supported"):
        socket.socket(socket.AF_INET6)


def test_all_interfaces_are_those_of_ipv4(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    where = daemon.command.index("--web.listen-address") + 1
    port = daemon.command[where].rpartition(":")[2]
    daemon.command[where] = f":{port}"
    daemon.process = subprocess.Popen(daemon.command, stdout=subprocess.PIPE, text=True)
    assert daemon.process.stdout is not None
    try:
        assert f"http://127.0.0.1:{port}/" in daemon.process.stdout.readline()
        assert daemon.scrape_until("slabmon_up", 1)["slabmon_up"] == 1
        with urllib.request.urlopen(f"http://localhost:{port}/", timeout=60) as page:
            assert page.status == 200
    finally:
        daemon.signal(15)
        assert daemon.wait() == 0


def test_an_address_of_ipv6_is_refused_with_the_reason() -> None:
    address = f"[::1]:{free_port()}"
    command = [SLABMON, "serve", "--web.listen-address", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2, done.stderr
    assert "Address family not supported" in done.stderr
    assert "choose another --web.listen-address" in done.stderr
    assert "Traceback" not in done.stderr
