# SPDX-License-Identifier: Apache-2.0
"""slabmon leaks: which growth is a leak, and why."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.base.parse import duration
from slabmon.cli.source_options import add_connect, add_replay, open_source, refuse_elsewhere
from slabmon.export.leaks import to_dict, to_text
from slabmon.kernel.settings import Filter, Settings
from slabmon.runtime.listeners import DEFAULT_SOCKET

if TYPE_CHECKING:
    from slabmon.export.leaks import Document
    from slabmon.leaks.observer import Observer
    from slabmon.sources.daemon import DaemonSource

_INTERVAL_SECONDS = 10.0


def percent(text: str) -> float:
    """A share of memory, in percent."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage above 0, at most 100")
    return value / 100


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "leaks",
        parents=[common],
        help="which growth is a leak, and why",
        description="Says what leaks, with the evidence for and against: as the daemon sees it "
        "that --connect names or that runs here, of a recording, else by watching this host "
        "through programs of its own (as root). A verdict takes 21 minutes of watching at least.",
    )
    add_connect(parser)
    add_replay(parser)
    parser.add_argument(
        "--seconds",
        metavar="DURATION",
        help="watch for so long, be it too short for a verdict (default: a daemon "
        "is asked what it has seen; own programs watch for 25m)",
    )
    parser.add_argument(
        "--share",
        type=percent,
        default=0.1,
        metavar="PERCENT",
        help="project when a suspect holds so much of the memory (default 10)",
    )
    parser.add_argument(
        "--exact", metavar="FILTER", help="track every allocation that matches, see `snapshot`"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    refuse_elsewhere(options, "exact")
    if options.replay is not None and options.seconds is not None:
        raise UsageError("--seconds does not go with --replay: a recording has its own time")
    seconds = None if options.seconds is None else duration(options.seconds)
    document = _replayed(options) if options.replay is not None else None
    if document is None and seconds is None:
        document = _asked(options)
    if document is None:
        document = _watched(options, seconds)
    text = json.dumps(document, allow_nan=False) + "\n"
    sys.stdout.write(text if options.format == "json" else to_text(document))
    return 0


def _observer() -> Observer:
    from slabmon.leaks.observer import Observer

    return Observer()


def _replayed(options: argparse.Namespace) -> Document:
    from slabmon.runtime.progress import track
    from slabmon.store.recording import Recording

    if options.connect is not None:
        raise UsageError("--connect and --replay exclude each other; choose one")
    observer = _observer()
    with Recording(options.replay) as recording:
        recording.span()  # a recording without snapshots is an error
        count = len(recording.times())
        for moment in track(recording.between(), count, "judging"):
            observer.add(moment.snapshot)
    return to_dict(observer.assess(), options.share)


def _asked(options: argparse.Namespace) -> Document | None:
    """What a daemon says, None if none runs here. One that has just begun says so itself."""
    daemon = _daemon(options)
    if daemon is None:
        return None
    with daemon:
        return daemon.leaks(options.share)


def _daemon(options: argparse.Namespace) -> DaemonSource | None:
    from slabmon.sources.daemon import DaemonSource

    if options.connect is not None:
        return DaemonSource(options.connect, options.ca_file)
    if options.exact is not None:
        return None
    daemon = DaemonSource(f"unix:{DEFAULT_SOCKET}")
    try:
        with daemon:
            daemon.leaks(options.share)
    except SlabmonError:
        return None
    return daemon


def _watched(options: argparse.Namespace, seconds: float | None) -> Document:
    from slabmon.runtime.progress import track

    observer = _observer()
    patience = observer.patience
    seconds = patience.seconds + 2 * patience.hold + 60 if seconds is None else seconds
    settings = Settings(exact=Filter.parse(options.exact) if options.exact else None)
    source = _daemon(options) or open_source(options, settings)
    with source:
        end = time.monotonic() + seconds
        observer.add(source.snapshot())
        readings = max(1, round(seconds / _INTERVAL_SECONDS))
        for number in track(range(readings), readings, "watching"):
            due = end - (readings - 1 - number) * seconds / readings
            time.sleep(max(0.0, due - time.monotonic()))
            observer.add(source.snapshot())
    return to_dict(observer.assess(), options.share)
