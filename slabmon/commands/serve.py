"""slabmon serve: the daemon."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from slabmon.config import DEFAULT_ADDRESS, Config, load, parse_address
from slabmon.errors import PermissionDenied, UsageError


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
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    config = load(options.config) if options.config else Config()
    host, port = parse_address(options.listen_address or config.listen_address)
    if options.config_check:
        sys.stdout.write("configuration is valid\n")
        return 0
    logging.basicConfig(stream=sys.stderr, level=logging.INFO,
                        format="%(levelname)s %(name)s: %(message)s")  # fmt: skip
    asyncio.run(serve(config, host, port))
    return 0


async def serve(config: Config, host: str, port: int) -> None:
    """Binds first, so that a busy port costs nothing; then tracks until told to stop."""
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets

    from slabmon.kernel.session import open_tracker
    from slabmon.service import Service
    from slabmon.web.app import make_app

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        sockets = bind_sockets(port, host or None)
    except PermissionError as error:
        raise PermissionDenied(f"cannot listen on {host}:{port}: {error.strerror}") from error
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            "is another slabmon running? choose another --web.listen-address"
        ) from error
    with open_tracker(config.settings) as tracker:
        service = Service(tracker)
        server = HTTPServer(make_app(service), idle_connection_timeout=30, body_timeout=5,
                            max_header_size=16 << 10, max_body_size=4 << 10)  # fmt: skip
        server.add_sockets(sockets)
        upkeep = asyncio.create_task(service.keep_up())
        port = sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host or "127.0.0.1"
        sys.stdout.write(
            f"slabmon is tracking kernel memory. Open http://{shown}:{port}/ in a browser;\n"
            f"metrics for Prometheus: http://{shown}:{port}/metrics. Stop with Ctrl-C.\n"
        )
        sys.stdout.flush()
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, upkeep}, return_when=asyncio.FIRST_COMPLETED)
        server.stop()
        if upkeep.done():
            upkeep.result()
        upkeep.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await upkeep
        await server.close_all_connections()
        service.close()
