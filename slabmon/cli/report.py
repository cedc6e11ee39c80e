# SPDX-License-Identifier: Apache-2.0
"""slabmon report: writes an HTML page, a pprof profile, or folded stacks."""

from __future__ import annotations

import argparse
import gc
import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.cli.snapshot import seconds
from slabmon.cli.source_options import (
    add_connect,
    add_replay,
    open_nearest,
    take_times,
    warn_of_damage,
)
from slabmon.kernel.settings import Settings
from slabmon.runtime.files import check_writable, write_whole, writing
from slabmon.runtime.progress import track

if TYPE_CHECKING:
    from slabmon.report.selection import ReportPeriod
    from slabmon.sources import SnapshotSource
    from slabmon.sources.daemon import DaemonSource
    from slabmon.sources.live import LiveSource
    from slabmon.sources.recording import RecordingSource
    from slabmon.views.window import WindowBuilder

FORMATS = ("html", "pprof", "folded")
OWN_SECONDS = 10.0
# How far back in a daemon's history growth is computed from, without --from.
DAEMON_SECONDS = 3600.0


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "report",
        parents=[common],
        help="write one self-contained page, or a profile for other tools",
        description="Reports on one moment or, with --from, on the changes between two. Times: "
        "03:00, 2026-03-01T03:00 (local time, or with Z or an offset), -10m (before the end).",
    )
    take_times(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="html",
        help="an HTML page, a gzipped pprof profile, or folded stacks (default html)",
    )
    parser.add_argument(
        "-o",
        dest="output",
        type=Path,
        metavar="FILE",
        help="output file (default, and -: standard output, unless it is a terminal)",
    )
    add_connect(parser)
    add_replay(parser)
    parser.add_argument(
        "--seconds",
        type=seconds,
        metavar="N",
        help="how long to watch, for growth (default 10 in a local session, 0 with a daemon)",
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="TIME",
        help="report the changes since then, in a recording or a daemon's history",
    )
    parser.add_argument(
        "--to",
        dest="end",
        metavar="TIME",
        help="the moment to report on, or the end of the changes (default: the last)",
    )
    parser.add_argument(
        "--value",
        choices=("live", "stacked", "allocated"),
        default="live",
        help="what folded stacks count, and what pages and profiles show first: live memory by "
        "stack (live), allocated memory by stack (stacked) or by call site (allocated); "
        "default live",
    )
    parser.add_argument(
        "--by",
        metavar="DIM[,DIM]",
        help="also show live memory by these dimensions; folded stacks show only these",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from slabmon.analysis.grouping import parse_dimensions

    by = parse_dimensions(options.by) if options.by is not None else ()
    if options.output == Path("-"):
        options.output = None
    _check(options)
    # Everything allocated here lives until the end: collecting garbage would take a fifth of the
    # time of a large report.
    gc.disable()
    try:
        content = _render(options, _subject(options), by)
    finally:
        gc.enable()
    if options.output is None:
        sys.stdout.buffer.write(content)
        return 0
    with writing(options.output):
        write_whole(options.output, content)
    if sys.stderr.isatty():
        sys.stderr.write(f"report written to {options.output}\n")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raise an error for options that contradict each other, and for a file that cannot be
    written, before anything is read."""
    if options.replay is not None and options.seconds is not None:
        raise UsageError("--seconds cannot be combined with --replay: a recording has its own time")
    if options.seconds is not None and _looks_back(options):
        raise UsageError(
            "--seconds cannot be combined with --from and --to, which select past data"
        )
    if options.by is not None and options.format == "folded" and options.value != "live":
        raise UsageError(
            "--by requires --value live: allocation totals are kept by stack and call site only"
        )
    if options.output is None and options.format != "folded" and sys.stdout.isatty():
        raise UsageError(f"{options.format} cannot be written to a terminal; use -o FILE")
    if options.output is not None:
        with writing(options.output):
            check_writable(options.output)


def _render(options: argparse.Namespace, period: ReportPeriod, by: tuple[str, ...]) -> bytes:
    if options.format == "pprof":
        from slabmon.export.pprof import to_pprof

        return to_pprof(period.now, period.before, options.value, by)
    if options.format == "folded":
        from slabmon.report.folded import to_folded

        return to_folded(period.now, period.before, options.value, by).encode()
    from slabmon.report.page import to_page

    return to_page(period, options.value, by).encode()


def _looks_back(options: argparse.Namespace) -> bool:
    return options.start is not None or options.end is not None


def _subject(options: argparse.Namespace) -> ReportPeriod:
    from slabmon.sources.daemon import DaemonSource
    from slabmon.sources.live import LiveSource
    from slabmon.sources.recording import RecordingSource

    source = open_nearest(options, Settings())
    if isinstance(source, LiveSource) and _looks_back(options):
        raise UsageError(
            "--from and --to need a past: use --replay with a recording, or --connect with a "
            "daemon that keeps history"
        )
    with source:
        if isinstance(source, RecordingSource):
            return _recorded(options, source)
        if isinstance(source, DaemonSource):
            return _of_daemon(options, source)
        return _of_session(options, cast("LiveSource", source))


def _recorded(options: argparse.Namespace, source: RecordingSource) -> ReportPeriod:
    from slabmon.report.leaks import judged
    from slabmon.report.selection import of_past

    period = of_past(source, f"recording {options.replay}", options.start, options.end)
    if options.format == "html":
        period = replace(period, leaks=judged(source, period.now, period.damaged))
    warn_of_damage(period.damaged)
    return period


def _of_daemon(options: argparse.Namespace, daemon: DaemonSource) -> ReportPeriod:
    """Report on a daemon: on its history if it keeps one or if times were given, else watch it."""
    from slabmon.report.leaks import asked
    from slabmon.report.selection import growth_history, of_past
    from slabmon.sources.lookback import fill_present
    from slabmon.store.recording import TimedSnapshot

    has_history = _looks_back(options)
    if not has_history and options.seconds is None:
        with suppress(SlabmonError):
            has_history = bool(daemon.span())
    if has_history:
        present = daemon.snapshot(details=True)
        period = of_past(
            daemon,
            "history of the daemon",
            options.start,
            options.end,
            TimedSnapshot(present.taken, present),
            DAEMON_SECONDS,
        )
        warn_of_damage(period.damaged)
    else:
        history = growth_history()
        if options.seconds is None:
            fill_present(history, daemon)
        period = _watched(daemon, options.seconds or 0.0, "a running daemon", history)
    if options.format != "html":
        return period
    return replace(period, leaks=asked(daemon, period.now.time if options.end else None))


def _of_session(options: argparse.Namespace, source: LiveSource) -> ReportPeriod:
    """Watch a local session; a page also shows a census."""
    from slabmon.report.selection import growth_history

    if options.format == "html":
        source.request_census()
    seconds = OWN_SECONDS if options.seconds is None else options.seconds
    return _watched(source, seconds, "a local session", growth_history(), source.wait_for_census)


def _watched(
    source: SnapshotSource,
    watch: float,
    origin: str,
    history: WindowBuilder,
    ready: Callable[[], object] = lambda: None,
) -> ReportPeriod:
    """Watch a source for `watch` seconds and until it is `ready`; report on the moment at the
    end, with the `history` before."""
    from slabmon.report.selection import MAX_POINTS, ReportPeriod
    from slabmon.store.recording import TimedSnapshot

    start, steps = time.monotonic(), min(MAX_POINTS - 1, math.ceil(watch))
    for step in track(range(1, steps + 1), steps, "watching"):
        history.add(source.snapshot())
        time.sleep(max(0.0, start + watch * step / steps - time.monotonic()))
    ready()
    snapshot = source.snapshot(details=True)
    return ReportPeriod(origin, TimedSnapshot(time.time(), snapshot), None, history.add(snapshot))
