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
from slabmon.runtime.files import check_writable, writing
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
    from slabmon.store.writer import RecordingWriter, Retention, check_continued

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
    seconds = math.inf if options.seconds is None else duration(options.seconds)
    with writing(options.output):
        check_writable(options.output)
    try:
        check_continued(options.output, damage=True)
    except UsageError as error:
        raise UsageError(f"{error}; it stays as it is: record to another file") from error
    # The source first: where it cannot be opened no file is made.
    with (
        open_source(options, settings) as source,
        RecordingWriter(options.output, retention) as history,
    ):
        sys.stderr.write(f"recording to {options.output} every {interval:g} s; Ctrl-C stops it\n")
        sys.stderr.flush()
        recorder = Recorder(source, history)
        recorder.run(interval, census, seconds)
    sys.stderr.write(f"{recorder.summary}\n")
    if recorder.failure is not None:
        raise recorder.failure
    return 0


class Recorder:
    """Appends snapshots to a recording. A snapshot that cannot be taken or written is left out with
    a warning, once, and the next one is tried; `failure` is why the last one was left out."""

    def __init__(self, source: SnapshotSource, history: RecordingWriter) -> None:
        self._source, self._history = source, history
        self._recorded = self._left_out = 0
        self.failure: SlabmonError | None = None

    def run(self, interval: float, census: float, seconds: float) -> None:
        """Record until a signal, or for `seconds`, with a last snapshot when they are over.

        A census is requested at once and every `census` seconds; 0: none is. Raises SlabmonError if
        the first snapshot cannot be recorded, UsageError if the file is no longer at its path.
        """
        with stop_signals() as stopped:
            start = time.monotonic()
            end = start + seconds
            census_due = start if census else math.inf
            self._add()
            due = start + interval
            while time.monotonic() < end and not stopped(min(due, end) - time.monotonic()):
                if time.monotonic() >= census_due:
                    request_census(self._source)
                    census_due += census
                if self._history.replaced():
                    sys.stderr.write(f"{self.summary}\n")
                    raise UsageError(
                        f"{self._history.path} was moved, deleted or unmounted while it was "
                        "recorded to; start another recording"
                    )
                self._try()
                # Snapshots missed while the host or this process was busy are not made up for.
                due = max(due + interval, time.monotonic())

    def _add(self) -> None:
        self._history.append(self._source.snapshot(details=True))
        self._recorded += 1

    def _try(self) -> None:
        try:
            self._add()
        except SlabmonError as error:
            if self.failure is None:
                sys.stderr.write(f"slabmon: warning: {error}; retrying\n")
            self.failure = error
            self._left_out += 1
        else:
            if self.failure is not None:
                sys.stderr.write("recording again\n")
            self.failure = None

    @property
    def summary(self) -> str:
        """How many snapshots were recorded."""
        text = f"{self._recorded} snapshot{'' if self._recorded == 1 else 's'} recorded"
        return f"{text}, {self._left_out} left out" if self._left_out else text
