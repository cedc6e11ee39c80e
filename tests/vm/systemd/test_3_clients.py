# SPDX-License-Identifier: Apache-2.0
"""The process that talks HTTP inside the sandbox: history, TLS and passwords, and its end."""

from __future__ import annotations

import os
import pwd
import signal
import ssl
import urllib.error
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.unit.web.serving.test_auth import HASH, basic
from tests.vm.systemd import host
from tests.vm.systemd.story import configure, main_pid, web_pids

HISTORY = Path("/var/lib/slabmon/history/slabs.db")
SECRETS = Path("/etc/web-of-slabmon")


def reload(configuration: str) -> None:
    configure(configuration)
    host.run("systemctl", "reload", "slabmon.service")


def test_history_is_kept_over_a_crash() -> None:
    reload(f'[history]\npath = "{HISTORY}"\ninterval_seconds = 1\n')

    def span() -> tuple[float, float]:
        found = host.json_of("/api/v1/history")
        return found["first"], found["last"]

    host.wait_for(lambda: host.answers("/api/v1/history") and len({*span()}) == 2)
    first, last = span()
    old = main_pid()
    os.kill(old, signal.SIGKILL)
    host.wait_for(lambda: host.running() and main_pid() != old)
    host.wait_for(lambda: host.answers("/api/v1/history") and span()[1] > last)
    assert span()[0] == first
    then = host.json_of(f"/api/v1/snapshot?at={first}")["tracking"]
    assert then["since"] == pytest.approx(host.snapshot()["tracking"]["since"], abs=0.01)
    assert HISTORY.stat().st_uid == pwd.getpwnam("slabmon").pw_uid
    assert HISTORY.stat().st_mode & 0o777 == 0o600
    assert HISTORY.parent.stat().st_mode & 0o777 == 0o750


def test_tls_and_passwords() -> None:
    authority = Authority(SECRETS)
    web = SECRETS / "web.yml"
    shown = {name: authority.issue(name) for name in ("first", "second")}
    cert, key = authority.folder / "cert.pem", authority.folder / "key.pem"

    def install(name: str) -> None:
        for target, source in zip((cert, key), shown[name], strict=True):
            source.chmod(0o600)  # nobody but root can read it
            source.rename(target)

    install("first")
    web.write_text(
        f"tls_server_config: {{cert_file: {cert}, key_file: {key}}}\n"
        f"basic_auth_users: {{alice: '{HASH.decode()}'}}\n"
    )
    host.run("slabmon", "serve", "--web.config.file", str(web), "--config.check")
    reload(f'[web]\nconfig_file = "{web}"\n')
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    host.wait_for(lambda: host.certificate(tls) == "first")
    assert b"slabmon_up" in host.get("/metrics", tls, basic("alice", "secret"))
    for wrong in ("", basic("alice", "x")):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            host.get("/metrics", tls, wrong)
    assert not host.answers("/metrics"), "nothing without TLS"
    install("second")
    host.wait_for(lambda: host.certificate(tls) == "second")
    reload("")
    host.wait_for(lambda: host.answers("/metrics"))


def test_a_web_process_that_hangs_is_replaced() -> None:
    host.wait_for(lambda: len(web_pids()) == 1)
    (web,) = web_pids()
    collector = main_pid()
    os.kill(web, signal.SIGSTOP)
    host.wait_for(lambda: web not in web_pids())
    host.wait_for(lambda: host.answers("/metrics"))
    assert main_pid() == collector
    host.wait_for(lambda: len(web_pids()) == 1)
