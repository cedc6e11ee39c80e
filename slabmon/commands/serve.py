"""slabmon serve: the daemon."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from slabmon.config import Config, load
from slabmon.errors import PermissionDenied
from slabmon.web.settings import DEFAULT_ADDRESS, WebSettings, parse_address


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "serve", parents=[common], help="run the daemon: metrics, JSON and a page",
        description="Runs in the foreground until SIGINT or SIGTERM.",
    )  # fmt: skip
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML configuration")
    parser.add_argument("--config.check", dest="config_check", action="store_true",
                        help="check the configuration and exit")  # fmt: skip
    parser.add_argument("--web.listen-address", dest="listen_address", metavar="HOST:PORT",
                        help=f"default {DEFAULT_ADDRESS}")  # fmt: skip
    parser.add_argument("--web.config.file", dest="config_file", metavar="FILE",
                        help="TLS and authentication, in exporter-toolkit's format")  # fmt: skip
    parser.add_argument("--web.telemetry-path", dest="telemetry_path", metavar="PATH",
                        help="where metrics are; default /metrics")  # fmt: skip
    parser.add_argument("--web.socket-path", dest="socket_path", metavar="PATH",
                        help="unix socket for local clients; empty: none")  # fmt: skip
    parser.add_argument("--web.user", dest="user", metavar="NAME",
                        help="whom the process that answers requests runs as; "
                        "default slabmon, else nobody")  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    config = load(options.config) if options.config else Config()
    given = {name: value for name in ("listen_address", "config_file", "telemetry_path",
                                      "socket_path", "user")
             if (value := getattr(options, name)) is not None}  # fmt: skip
    web = replace(config.web, **given)
    if web.config_file:
        web = replace(web, config_file=os.path.abspath(web.config_file))
    if options.config_check:
        if web.config_file:
            check_web_config(Path(web.config_file))
        sys.stdout.write("configuration is valid\n")
        return 0
    if os.geteuid() != 0:
        raise PermissionDenied("slabmon serve has to be started as root; it loads BPF programs "
                               "and runs what talks HTTP as another user")  # fmt: skip
    logging.basicConfig(stream=sys.stderr, level=logging.INFO,
                        format="%(levelname)s %(name)s: %(message)s")  # fmt: skip
    serve(replace(config, web=web))
    return 0


def check_web_config(path: Path) -> None:
    """Reads it and the certificates it names as the daemon would."""
    from slabmon.web.config import load
    from slabmon.web.tls import make_context

    config = load(path)
    if config.tls:
        make_context(config.tls)


def listeners(web: WebSettings) -> list[socket.socket]:
    """Sockets of systemd if it passed some, else those of the settings."""
    from slabmon import listeners as sockets

    passed = sockets.activated(sockets.inherited())
    if passed:
        return passed
    found = sockets.bind_tcp(*parse_address(web.listen_address))
    if web.socket_path is None:
        found += filter(None, [sockets.bind_default_unix()])
    elif web.socket_path:
        found.append(sockets.bind_unix(Path(web.socket_path)))
    return found


def serve(config: Config) -> None:
    """Binds first, so that a busy port costs nothing; then tracks until told to stop."""
    from slabmon.kernel.session import open_tracker
    from slabmon.loop import Loop
    from slabmon.service import Service

    with ExitStack() as stack:
        sockets = [stack.enter_context(sock) for sock in listeners(config.web)]
        loop = stack.enter_context(Loop())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.on_signal(number, loop.stop)
        service = Service(loop, config.web, sockets)
        stack.callback(service.close)
        tracker = stack.enter_context(open_tracker(config.settings))
        service.web.wait_until_started()
        service.attend(tracker)
        for line in greeting(config.web, sockets):
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
        loop.run()


def greeting(web: WebSettings, sockets: list[socket.socket]) -> list[str]:
    """Where to look, for whoever started it by hand."""
    lines = []
    scheme = "https" if web.config_file else "http"
    for sock in sockets:
        if sock.family == socket.AF_UNIX:
            lines.append(f"Local clients find it at unix:{sock.getsockname()}")
            continue
        host, port = sock.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        lines += [
            f"slabmon is tracking kernel memory. Open {url}/ in a browser;",
            f"metrics for Prometheus: {url}{web.telemetry_path}. Stop with Ctrl-C.",
        ]
    return lines
