# SPDX-License-Identifier: Apache-2.0
"""slabmon top: the terminal view."""

from __future__ import annotations

import argparse
import os
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
    """Parse the seconds between readings."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not MIN_DELAY <= value <= MAX_DELAY:
        raise argparse.ArgumentTypeError(
            f"expected seconds from {MIN_DELAY} to {MAX_DELAY:.0f}, got {text!r}"
        )
    return value


def count(text: str) -> int:
    """Parse a number of readings."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:11]) <= MAX_COUNT:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {MAX_COUNT}, got {text!r}")
    return int(text)


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "top",
        parents=[common],
        help="show who holds kernel memory, live in the terminal",
        description="Shows who holds kernel memory, live in the terminal. Press ? for help.",
    )
    add_connect(parser)
    add_replay(parser)
    parser.add_argument(
        "-b",
        dest="batch",
        action="store_true",
        help="batch mode: print plain text, for scripts and pipes",
    )
    parser.add_argument(
        "-n", dest="count", type=count, metavar="N", help="stop after N readings (default: never)"
    )
    parser.add_argument(
        "-d",
        dest="delay",
        type=delay,
        default=2.0,
        metavar="SECONDS",
        help="time between readings (default 2)",
    )
    parser.add_argument(
        "-s",
        dest="sort",
        default="",
        metavar="COLUMN",
        help="sort by a column or one of slabtop's letters; -s=-COLUMN reverses the order",
    )
    parser.add_argument(
        "--view",
        choices=tuple(VIEWS),
        metavar="VIEW",
        help=f"view to start with: {', '.join(VIEWS)} (default overview; caches with -b, -s or "
        "--filter)",
    )
    parser.add_argument(
        "--filter",
        default="",
        metavar="TEXT",
        help="show only matching rows, for example 'kmalloc live > 1M'",
    )
    parser.add_argument(
        "--pages",
        action="store_true",
        help="also count page allocator events, and sample the kernel's pages by caller; in a "
        "local session only",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from slabmon.runtime.tuning import raise_gc_threshold
    from slabmon.tui.start import Start

    raise_gc_threshold()
    refuse_elsewhere(options, "pages")
    # Scripts that name no view read caches, whose columns they sort and filter by.
    plain = options.batch or options.sort or options.filter
    view = options.view or ("caches" if plain else next(iter(VIEWS)))
    start = Start(options.delay, options.count, view, options.sort, options.filter)
    start.check()
    # The local daemon may not count pages.
    nearest = open_source if options.pages else open_nearest
    source = nearest(options, Settings(pages=options.pages))
    if options.batch:
        from slabmon.tui import batch

        return batch.run(source, start)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("top needs a terminal; use -b for plain text")
    if os.environ.get("TERM") == "dumb":
        raise UsageError("top needs a terminal with a cursor, TERM is dumb; use -b for plain text")
    _require_textual()
    return _on_screen(source, start)


def _require_textual() -> None:
    """Raise UnsupportedHost if Textual is missing or too old."""
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
    from slabmon.sources.live import LiveSource
    from slabmon.tui.app import TopApp

    app = TopApp(source, start, source.instead_of if isinstance(source, LiveSource) else "")
    try:
        app.open()
        app.remember_signals()
        app.run()
    finally:
        app.close()
    if app.failure is not None:
        raise app.failure
    return app.return_value or 0
