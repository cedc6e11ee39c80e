# SPDX-License-Identifier: Apache-2.0
"""A checkout below a private directory: once the web process is another user it can read no module
of it. So it imports everything that any request needs before that."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from slabmon.store.codec import CONTENT_TYPE
from slabmon.views.catalogue import VIEWS
from tests.live.daemon import Daemon
from tests.support.certificates import Authority
from tests.support.serving import Client, run
from tests.unit.web.serving.test_auth import HASH, basic

pytestmark = [pytest.mark.live, pytest.mark.beside]

# Python reads this file in each process: modules imported as another user are written down.
WATCH = """
import os, sys
log = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
def watch(event, arguments):
    if event == "import" and os.getuid():
        os.write(log, arguments[0].encode() + b"\\n")
sys.addaudithook(watch)
"""
PATHS = [
    "/",
    "/static/page.js",
    "/metrics",
    "/api/v1/snapshot",
    "/api/v1/history",
    "/api/v1/leaks",
    "/api/v1/census",
    "/api/v1/snapshot?at=2026-01-01T00:00:00Z",
    "/api/v1/views",
    "/api/v1/chart?view=caches",
    "/api/v1/chart?view=caches&at=-1s",
    "/api/v1/table.csv?view=sites",
    "/healthz",
    "/readyz",
    "/api/v1/table?view=caches&at=-1s",
    "/api/v1/table.json?view=devices&filter=managed>0",
    "/nowhere",
    *(f"/api/v1/table?view={view}" for view in VIEWS),
]
ACCEPT = ("text/plain", "application/openmetrics-text", CONTENT_TYPE)


async def ask_for_everything(port: int, tls: ssl.SSLContext) -> None:
    client = await Client.to(("127.0.0.1", port), tls)
    assert (await client.ask("/metrics", Authorization=basic("alice", "wrong"))).status == 401
    right = basic("alice", "secret")
    for path in ("/api/v1/history", "/api/v1/census"):
        while (await client.ask(path, Authorization=right)).status != 200:
            await asyncio.sleep(0.2)  # for the first snapshot that is kept, and the first census
    for accept in ACCEPT:
        for path in PATHS:
            reply = await client.ask(
                path, Authorization=right, Accept=accept, Accept_Encoding="gzip"
            )
            assert reply.status == (404 if path == "/nowhere" else 200), (path, reply)
    client.close()


def test_nothing_is_imported_as_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported, hooks = tmp_path / "imported", tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(WATCH.format(path=str(imported)))
    monkeypatch.setenv("PYTHONPATH", f"{hooks}:{os.environ.get('PYTHONPATH', '')}")
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    web = tmp_path / "web.yml"
    web.write_text(
        f"tls_server_config: {{cert_file: {cert}, key_file: {key}}}\n"
        f"basic_auth_users: {{alice: '{HASH.decode()}'}}\n"
    )
    daemon = Daemon(tmp_path)
    with TemporaryDirectory() as public:  # the web process goes through it as another user
        os.chmod(public, 0o755)
        daemon.config.write_text(
            f"[web]\nconfig_file = '{web}'\nbudget_seconds = 60\n"
            "[state]\nkeep = false\n"
            f"[history]\npath = '{public}/history/slabs.db'\ninterval_seconds = 1\n"
        )
        daemon.start()
        try:
            address = daemon.command[daemon.command.index("--web.listen-address") + 1]
            tls = ssl.create_default_context(cafile=str(authority.certificate))
            run(lambda: ask_for_everything(int(address.rpartition(":")[2]), tls))
        finally:
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
    names = {line.partition(".")[0] for line in imported.read_text().splitlines()}
    assert names <= sys.stdlib_module_names, names - sys.stdlib_module_names
