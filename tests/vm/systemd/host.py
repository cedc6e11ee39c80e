# SPDX-License-Identifier: Apache-2.0
"""The guest as an administrator sees it: packages, systemctl, the journal, a scrape."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[3]
PORT = 7522


def run(*command: str, check: bool = True) -> str:
    """Output of a command, errors included."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=PROJECT,
        timeout=300,
    )
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def install_package() -> None:
    """The one that `make deb` made on the host; over itself, an upgrade."""
    (package,) = Path("/vm/share").glob("*.deb")
    run("dpkg", "--install", str(package))


def show(name: str, unit: str = "slabmon.service") -> str:
    """A property of a unit."""
    return run("systemctl", "show", "--value", "--property", name, unit).strip()


def journal() -> str:
    return run("journalctl", "--no-pager", "--output", "cat", "--unit", "slabmon.service")


def wait_for(what: Callable[[], bool], seconds: float = 180) -> None:
    """Emulated machines are slow; a condition that does not come is a failure."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"it did not come about\n{journal()[-6000:]}"
        time.sleep(0.5)


def running() -> bool:
    return show("ActiveState") == "active" and show("SubState") == "running"


def get(
    path: str, tls: ssl.SSLContext | None = None, authorization: str = "", seconds: float = 60
) -> bytes:
    """The body of an answer. Raises HTTPError for one that is an error."""
    url = f"{'https' if tls else 'http'}://localhost:{PORT}{path}"
    headers = {"Authorization": authorization} if authorization else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=seconds, context=tls) as answer:
        body: bytes = answer.read()
        return body


def answers(path: str, seconds: float = 60) -> bool:
    """Whether it is answered, over plain HTTP, by something else than an error."""
    try:
        get(path, seconds=seconds)
    except (OSError, HTTPException):
        return False
    return True


def json_of(path: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(get(path))
    return document


def certificate(tls: ssl.SSLContext) -> str | None:
    """Common name of the certificate that is shown; None without TLS."""
    try:
        with (
            socket.create_connection(("localhost", PORT), 30) as plain,
            tls.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            shown: Any = secured.getpeercert()
    except ssl.SSLCertVerificationError:
        raise  # it would never come about
    except OSError:
        return None
    return str(dict(field[0] for field in shown["subject"])["commonName"])


def scrape() -> dict[str, float]:
    """All samples of a fresh reading; waits for one."""
    deadline = time.monotonic() + 120
    while True:
        try:
            lines = get("/metrics").decode().splitlines()
            found = {
                name: float(value)
                for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")
            }
            if found.get("slabmon_up") == 1:
                return found
        except (OSError, HTTPException):
            pass
        assert time.monotonic() < deadline, f"no fresh reading\n{journal()[-6000:]}"
        time.sleep(0.5)


def messages_sent(at_least: int) -> int:
    """Return the number of messages sent since tracking began.

    It is that of their call site, which unlike their cache has no other users. Readings are shared
    for a moment: asks until `at_least` messages are counted.
    """
    deadline = time.monotonic() + 60
    while True:
        sites = snapshot()["sites"]
        found: int = sum(s["allocs"] for s in sites if s["symbol"] in ("load_msg", "alloc_msg"))
        if found >= at_least or time.monotonic() > deadline:
            return found


def security() -> float:
    """What `systemd-analyze security` says."""
    line = run("systemd-analyze", "security", "--no-pager", "slabmon.service").splitlines()[-1]
    found = re.search(r": (\d+\.\d+) ", line)
    assert found, line
    return float(found[1])


def snapshot() -> dict[str, Any]:
    """All of it as JSON; waits for a reading, which takes long on an emulated machine."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return json_of("/api/v1/snapshot")
        except (OSError, HTTPException):
            pass
        assert time.monotonic() < deadline, f"no reading\n{journal()[-6000:]}"
        time.sleep(0.5)
