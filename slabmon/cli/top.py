# SPDX-License-Identifier: Apache-2.0
"""slabmon top: the terminal view."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from slabmon.base.errors import UnsupportedHost, UsageError
from slabmon.cli.source_options import (
    add_connect,
    add_replay,
    open_nearest,
    open_source,
    refuse_elsewhere,
)
from slabmon.kernel.settings import Settings
from slabmon.sources import SnapshotSource
from slabmon.views.catalogue import VIEWS

if TYPE_CHECKING:
    from slabmon.tui.start import Start

MIN_TEXTUAL = 8  # major version
MIN_DELAY, MAX_DELAY, MAX_COUNT = 0.1, 3600.0, 10**9


def delay(text: str) -> float:
    """Seconds between readings."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not MIN_DELAY <= value <= MAX_DELAY:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds from {MIN_DELAY} to {MAX_DELAY:.0f}"
        )
    return value


def count(text: str) -> int:
    """A number of readings."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:11]) <= MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_COUNT}")
    return int(text)


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "top",
        parents=[common],
        help="the terminal view, live",
        description="Shows who holds kernel memory, live: of the daemon that --connect names or "
        "that runs here, of a recording, else through programs of its own (as root).",
    )
    add_connect(parser)
    add_replay(parser)
    parser.add_argument(
        "-b",
        dest="batch",
        action="store_true",
        help="batch: plain text each time, for scripts and pipes",
    )
    parser.add_argument(
        "-n", dest="count", type=count, metavar="N", help="end after N readings (default: go on)"
    )
    parser.add_argument(
        "-d",
        dest="delay",
        type=delay,
        default=2.0,
        metavar="SECONDS",
        help="between readings (default 2)",
    )
    parser.add_argument(
        "-s",
        dest="sort",
        default="",
        metavar="COLUMN",
        help="order by a column or one of slabtop's letters; -COLUMN inverts (write -s=-COLUMN)",
    )
    parser.add_argument("--view", choices=tuple(VIEWS), default="caches", help="default caches")
    parser.add_argument(
        "--filter", default="", metavar="TEXT", help="rows to show, for example 'kmalloc live > 1M'"
    )
    parser.add_argument(
        "--pages",
        action="store_true",
        help="count page allocator events too, in programs of its own",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from slabmon.runtime.tuning import raise_gc_threshold
    from slabmon.tui.start import Start

    raise_gc_threshold()
    refuse_elsewhere(options, "pages")
    start = Start(options.delay, options.count, options.view, options.sort, options.filter)
    start.check()
    # The daemon that runs here may not count pages.
    nearest = open_source if options.pages else open_nearest
    source = nearest(options, Settings(pages=options.pages))
    if options.batch:
        from slabmon.tui import batch

        return batch.run(source, start)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("top needs a terminal; use -b for plain text")
    _require_textual()
    return _on_screen(source, start)


def _require_textual() -> None:
    """Raises UnsupportedHost if Textual is missing or too old."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        present = version("textual")
    except PackageNotFoundError:
        problem = "it is not installed"
    else:
        if int(present.split(".")[0]) >= MIN_TEXTUAL:
            return
        problem = f"this is {present}"
    raise UnsupportedHost(
        f"the terminal view needs Textual {MIN_TEXTUAL} or newer, {problem}; install it with "
        "pip, or use -b for plain text"
    )


def _on_screen(source: SnapshotSource, start: Start) -> int:
    from slabmon.tui.app import TopApp

    app = TopApp(source, start)
    try:
        app.open()
        app.run()
    finally:
        app.close()
    if app.failure is not None:
        raise app.failure
    return app.return_value or 0
