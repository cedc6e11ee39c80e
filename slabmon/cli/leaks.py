# SPDX-License-Identifier: Apache-2.0
"""slabmon leaks: reports suspected leaks, with the evidence."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from slabmon.base.errors import UsageError
from slabmon.base.parse import duration
from slabmon.cli.source_options import (
    add_connect,
    add_replay,
    open_nearest,
    open_source,
    refuse_elsewhere,
    warn_of_damage,
)
from slabmon.export.leaks import to_dict, to_text
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.settings import Settings

if TYPE_CHECKING:
    from slabmon.export.leaks import Document
    from slabmon.leaks.observer import Observer
    from slabmon.sources import SnapshotSource

_INTERVAL_SECONDS = 10.0


def percent(text: str) -> float:
    """Parse a percentage; return the share."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(
            f"expected a percentage above 0 and up to 100, got {text!r}"
        )
    return value / 100


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "leaks",
        parents=[common],
        help="report suspected leaks, with the evidence",
        description="Reports suspected leaks with the evidence for and against each. A verdict "
        "needs at least 21 minutes of tracking.",
    )
    add_connect(parser)
    add_replay(parser)
    parser.add_argument(
        "--seconds",
        metavar="DURATION",
        help="watch for this long, even if it is too short for a verdict (default: report what a "
        "daemon has seen so far; 25m in a local session)",
    )
    parser.add_argument(
        "--share",
        type=percent,
        default=0.1,
        metavar="PERCENT",
        help="project when a suspect will hold this share of memory (default 10)",
    )
    parser.add_argument(
        "--exact", metavar="FILTER", help="track every matching allocation, see `slabmon snapshot`"
    )
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="default table"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    refuse_elsewhere(options, "exact")
    if options.replay is not None and options.seconds is not None:
        raise UsageError("--seconds cannot be combined with --replay: a recording has its own time")
    seconds = None if options.seconds is None else duration(options.seconds)
    document = _present(options, seconds) if options.replay is None else _replayed(options)
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
        raise UsageError("--connect and --replay cannot be combined; use one of them")
    observer, damaged = _observer(), dict[float, str]()
    with Recording(options.replay) as recording:
        recording.span()  # raises if it has no snapshots
        count = len(recording.times())
        for moment in track(recording.between(damaged=damaged), count, "judging"):
            observer.add(moment.snapshot)
    if len(damaged) == count:
        raise UsageError(damaged[min(damaged)])
    warn_of_damage(damaged)
    return to_dict(observer.assess(), options.share)


def _present(options: argparse.Namespace, seconds: float | None) -> Document:
    """Return a daemon's verdicts, or those from watching it, or this host, for `seconds`."""
    from slabmon.sources.daemon import DaemonSource

    if options.exact is not None:  # a daemon may track something else
        source = open_source(options, Settings(exact=Filter.parse(options.exact)))
    else:
        source = open_nearest(options, Settings(), lambda daemon: daemon.leaks(options.share))
    if seconds is None and isinstance(source, DaemonSource):
        with source:
            return source.leaks(options.share)
    return _watched(source, seconds, options.share)


def _watched(source: SnapshotSource, seconds: float | None, share: float) -> Document:
    from slabmon.runtime.progress import track

    observer = _observer()
    patience = observer.patience
    seconds = patience.seconds + 2 * patience.hold + 60 if seconds is None else seconds
    with source:
        end = time.monotonic() + seconds
        observer.add(source.snapshot(details=True))
        readings = max(1, round(seconds / _INTERVAL_SECONDS))
        for number in track(range(readings), readings, "watching"):
            due = end - (readings - 1 - number) * seconds / readings
            time.sleep(max(0.0, due - time.monotonic()))
            observer.add(source.snapshot(details=True))
    return to_dict(observer.assess(), share)
