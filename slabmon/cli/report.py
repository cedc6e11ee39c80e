# SPDX-License-Identifier: Apache-2.0
"""slabmon report: a page, a profile for other tools, or folded stacks."""

from __future__ import annotations

import argparse
import gc
import math
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost, UsageError
from slabmon.cli.snapshot import seconds
from slabmon.cli.source_options import add_connect, add_replay, open_nearest, take_times
from slabmon.kernel.settings import Settings
from slabmon.runtime.progress import track

if TYPE_CHECKING:
    from slabmon.report.selection import ReportPeriod
    from slabmon.sources import SnapshotSource
    from slabmon.sources.daemon import DaemonSource
    from slabmon.sources.recording import RecordingSource

FORMATS = ("html", "pprof", "folded")
OWN_SECONDS = 10.0
# How far growth goes back in a daemon's history, unless --from says so.
DAEMON_SECONDS = 3600.0


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "report",
        parents=[common],
        help="one page about it all, or a profile for other tools",
        description="Reports on one moment, or with --from on what changed between two: of the "
        "recording that --replay names, of the daemon that --connect names or that runs here, else "
        "through programs of its own (as root). Times: 03:00, 2026-03-01T03:00 (local time, or "
        "with Z or an offset), -10m (before the end).",
    )
    take_times(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="html",
        help="one HTML page, a gzip'ed pprof profile, or folded stacks (default html)",
    )
    parser.add_argument(
        "-o",
        dest="output",
        type=Path,
        metavar="FILE",
        help="default: standard output, if that is no terminal",
    )
    add_connect(parser)
    add_replay(parser)
    parser.add_argument(
        "--seconds",
        type=seconds,
        metavar="N",
        help="how long to watch, for growth (default 10 with programs of its "
        "own; a daemon's history needs no watching)",
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="TIME",
        help="of a recording or of a daemon's history: what changed since then",
    )
    parser.add_argument(
        "--to",
        dest="end",
        metavar="TIME",
        help="the moment, or the end of the change (default: the last)",
    )
    parser.add_argument(
        "--value",
        choices=("live", "stacked", "allocated"),
        default="live",
        help="what folded stacks count, and pages and profiles show first: live "
        "or allocated memory by stack, or allocated by call site",
    )
    parser.add_argument(
        "--by",
        metavar="DIM[,DIM]",
        help="live memory by dimensions too; folded stacks by these alone",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from slabmon.analysis.grouping import parse_dimensions

    by = parse_dimensions(options.by) if options.by is not None else ()
    _check(options)
    # All that is made here is kept until the end: searching it for garbage costs a fifth of a
    # large report's time.
    gc.disable()
    try:
        content = _render(options, _subject(options), by)
    finally:
        gc.enable()
    if options.output is None:
        sys.stdout.buffer.write(content)
        return 0
    try:
        options.output.write_bytes(content)
    except PermissionError as error:
        raise PermissionDenied(f"cannot write {options.output}: {error.strerror}") from error
    except OSError as error:
        raise UsageError(f"cannot write {options.output}: {error.strerror}") from error
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuses what makes no sense before anything is read or waited for."""
    if options.replay is not None and options.seconds is not None:
        raise UsageError("--seconds does not go with --replay: a recording has its own time")
    if options.seconds is not None and _looks_back(options):
        raise UsageError("--seconds does not go with --from and --to, which are about the past")
    if options.by is not None and options.format == "folded" and options.value != "live":
        raise UsageError(
            "--by is for live memory: what was freed is known by stack or call site alone"
        )
    if options.output is None and options.format != "folded" and sys.stdout.isatty():
        raise UsageError(f"{options.format} is not for a terminal; give -o FILE")


def _render(options: argparse.Namespace, period: ReportPeriod, by: tuple[str, ...]) -> bytes:
    if options.format == "pprof":
        try:
            from slabmon.report.pprof import to_pprof
        except ModuleNotFoundError as error:
            raise UnsupportedHost(
                f"profiles need the Python package protobuf ({error}); install Debian's "
                "python3-protobuf"
            ) from error
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
            "--from and --to need a past: give a recording with --replay, or a daemon "
            "that keeps history with --connect"
        )
    with source:
        if isinstance(source, RecordingSource):
            return _recorded(options, source)
        if isinstance(source, DaemonSource):
            return _of_daemon(options, source)
        return _watched(
            source,
            OWN_SECONDS if options.seconds is None else options.seconds,
            "programs of its own",
        )


def _recorded(options: argparse.Namespace, source: RecordingSource) -> ReportPeriod:
    from slabmon.report.leaks import judged
    from slabmon.report.selection import of_past

    found = of_past(source, f"recording {options.replay}", options.start, options.end)
    return replace(found, leaks=judged(source, found.now)) if options.format == "html" else found


def _of_daemon(options: argparse.Namespace, daemon: DaemonSource) -> ReportPeriod:
    """Of its history, if it keeps one or must."""
    from slabmon.report.leaks import asked
    from slabmon.report.selection import of_past
    from slabmon.store.recording import Moment

    kept = _looks_back(options)
    if not kept and options.seconds is None:
        with suppress(SlabmonError):
            kept = bool(daemon.span())
    if kept:
        present = daemon.snapshot(details=True)
        found = of_past(
            daemon,
            "history of the daemon",
            options.start,
            options.end,
            Moment(present.taken, present),
            DAEMON_SECONDS,
        )
    else:
        found = _watched(daemon, options.seconds or 0.0, "a running daemon")
    if options.format != "html":
        return found
    return replace(found, leaks=asked(daemon, found.now.time if options.end else None))


def _watched(source: SnapshotSource, watch: float, origin: str) -> ReportPeriod:
    """The moment at the end of so many seconds, and its history over them."""
    from slabmon.report.selection import MAX_POINTS, ReportPeriod, growth_history
    from slabmon.store.recording import Moment

    history = growth_history()
    start, steps = time.monotonic(), min(MAX_POINTS - 1, math.ceil(watch))
    for step in track(range(1, steps + 1), steps, "watching"):
        history.add(source.snapshot())
        time.sleep(max(0.0, start + watch * step / steps - time.monotonic()))
    snapshot = source.snapshot(details=True)
    return ReportPeriod(origin, Moment(time.time(), snapshot), None, history.add(snapshot))
