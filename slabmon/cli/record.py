# SPDX-License-Identifier: Apache-2.0
"""slabmon record: records snapshots into a file."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.base.parse import duration
from slabmon.cli.source_options import LOCAL_SESSION, add_connect, open_source, refuse_elsewhere
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.settings import Settings
from slabmon.runtime.signals import stop_signals
from slabmon.sources import SnapshotSource, request_census

if TYPE_CHECKING:
    from slabmon.store.writer import RecordingWriter

MIN_INTERVAL_SECONDS = 0.1
CENSUS_INTERVAL = "1h"


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "record",
        parents=[common],
        help="record snapshots into a file, for replay",
        description="Records snapshots into one file until SIGINT or SIGTERM. An existing "
        "recording is continued. Durations: 10s, 5m, 12h, 7d; sizes: 64M, 2G.",
    )
    parser.add_argument(
        "-o", dest="output", type=Path, metavar="FILE", required=True, help="the recording"
    )
    parser.add_argument(
        "--interval", default="10s", metavar="DURATION", help="time between snapshots (default 10s)"
    )
    parser.add_argument(
        "--seconds", metavar="DURATION", help="stop after this time (default: never)"
    )
    parser.add_argument(
        "--census",
        metavar="DURATION",
        help=f"time between censuses (default {CENSUS_INTERVAL}; 0: none); see `slabmon census`",
    )
    parser.add_argument("--keep", metavar="DURATION", help="delete snapshots older than this")
    parser.add_argument(
        "--max-size", metavar="SIZE", help="delete the oldest snapshots while the file is larger"
    )
    parser.add_argument(
        "--exact", metavar="FILTER", help="track every matching allocation, see `slabmon snapshot`"
    )
    parser.add_argument(
        "--sample-bytes",
        type=int,
        metavar="N",
        help=f"mean allocated bytes between samples (default {Settings.sample_bytes})",
    )
    add_connect(parser, LOCAL_SESSION)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from slabmon.store.writer import RecordingWriter, Retention

    refuse_elsewhere(options, "exact", "sample_bytes", "census")
    interval = duration(options.interval)
    if interval < MIN_INTERVAL_SECONDS:
        raise UsageError(
            f"--interval: expected at least {MIN_INTERVAL_SECONDS} s, got {options.interval}"
        )
    census = 0.0  # a daemon takes its own
    if options.connect is None:
        census = duration(CENSUS_INTERVAL if options.census is None else options.census)
    retention = Retention.parse(options.keep, options.max_size)
    settings = Settings(
        sample_bytes=Settings.sample_bytes
        if options.sample_bytes is None
        else options.sample_bytes,
        exact=Filter.parse(options.exact) if options.exact is not None else None,
    )
    end = float("inf") if options.seconds is None else duration(options.seconds)
    with (
        RecordingWriter(options.output, retention) as history,
        open_source(options, settings) as source,
    ):
        sys.stderr.write(f"recording to {options.output} every {interval:g} s; Ctrl-C stops it\n")
        sys.stderr.flush()
        count = _record(source, history, interval, census, end)
    sys.stderr.write(f"{count} snapshot{'' if count == 1 else 's'} recorded\n")
    return 0


def _record(
    source: SnapshotSource, history: RecordingWriter, interval: float, census: float, seconds: float
) -> int:
    """Record until a signal, or for `seconds`; return the number of snapshots. A census is
    requested at once and every `census` seconds; 0: none is."""
    with stop_signals() as stopped:
        start = time.monotonic()
        census_due = start if census else math.inf
        history.append(source.snapshot(details=True))
        count, failing = 1, False
        due = start + interval
        while due - start <= seconds and not stopped(due - time.monotonic()):
            if time.monotonic() >= census_due:
                request_census(source)
                census_due += census
            try:
                snapshot = source.snapshot(details=True)
            except SlabmonError as error:
                if not failing:
                    sys.stderr.write(f"slabmon: warning: {error}; retrying\n")
                failing = True
            else:
                failing = False
                history.append(snapshot)
                count += 1
            # Snapshots missed while the host or this process was busy are not made up for.
            due = max(due + interval, time.monotonic())
        return count
