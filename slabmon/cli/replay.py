# SPDX-License-Identifier: Apache-2.0
"""slabmon replay: serves a recording as a daemon would."""

from __future__ import annotations

import argparse
import math
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from slabmon.base.errors import UsageError
from slabmon.base.parse import moment, show_moment
from slabmon.cli.source_options import take_times
from slabmon.web.settings import DEFAULT_ADDRESS, WebSettings, parse_address


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "replay",
        parents=[common],
        help="serve a recording: metrics, JSON and a web page",
        description="Serves what a daemon would have served while FILE was recorded. top, leaks "
        "and report read recordings with --replay.",
    )
    take_times(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="made by `slabmon record`")
    parser.add_argument(
        "--speed",
        type=float,
        default=1.0,
        metavar="N",
        help="recorded seconds per second (default 1; 0 pauses)",
    )
    parser.add_argument(
        "--start",
        metavar="TIME",
        help="begin at 03:00, at 2026-07-28T03:00, or at -1h, before the end "
        "(default: where its first ten minutes end, or all of it if it is shorter, so that "
        "growth is known at once)",
    )
    parser.add_argument(
        "--web.listen-address",
        dest="listen_address",
        metavar="HOST:PORT",
        default=DEFAULT_ADDRESS,
        help=f"address to listen on (default {DEFAULT_ADDRESS})",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    if not math.isfinite(options.speed) or options.speed < 0:
        raise UsageError(f"--speed: expected a number from 0, got {options.speed}")
    settings = WebSettings(listen_address=options.listen_address)
    import asyncio

    from slabmon.runtime.tuning import SINGLE_THREADED, raise_gc_threshold

    os.environ.update(SINGLE_THREADED)  # before numpy: threads would keep their privileges
    from slabmon.runtime.listeners import bind_tcp, urls
    from slabmon.sources.recording import RecordingSource
    from slabmon.views.window import WINDOW_SECONDS
    from slabmon.web.feeds.replay import serve
    from slabmon.web.handlers.base import Context
    from slabmon.web.handlers.page import page_files
    from slabmon.web.serving import privileges
    from slabmon.web.serving.access import Access
    from slabmon.web.serving.config import WebConfig

    raise_gc_threshold()
    with RecordingSource(options.file, options.speed) as source, ExitStack() as stack:
        first, last = source.span()
        start = first + WINDOW_SECONDS
        if options.start is not None:
            start = _start(options.start, first, last, options.file)
        source.clock.seek(start)
        sockets = bind_tcp(*parse_address(settings.listen_address))
        for sock in sockets:
            stack.enter_context(sock)
        sys.stdout.write(
            f"replaying {options.file} from {show_moment(first)} to {show_moment(last)} "
            f"at {options.speed:g} times its speed.\n"
            f"Open {urls(sockets, 'http')[0]}/. Stop with Ctrl-C.\n"
        )
        sys.stdout.flush()
        context = Context(settings, Access(WebConfig()), page_files())
        if os.geteuid() == 0:  # as in the daemon, nothing privileged speaks HTTP
            privileges.drop(privileges.find_user(None))
        asyncio.run(serve(source, context, sockets))
    return 0


def _start(text: str, first: float, last: float, file: Path) -> float:
    """Return the Unix time of --start. Raises UsageError if it lies outside the recording."""
    time = moment(text, last)
    # Times are given, and shown, in whole seconds.
    if not int(first) <= time <= int(last) + 1:
        raise UsageError(
            f"--start: {text} ({show_moment(time)}) is outside the recording {file}, which covers "
            f"{show_moment(first)} to {show_moment(last)}"
        )
    return time
