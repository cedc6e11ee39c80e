# SPDX-License-Identifier: Apache-2.0
"""The options --connect and --replay, and the source they select."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slabmon.base.errors import PermissionDenied, SlabmonError, UsageError
from slabmon.sources import SnapshotSource

if TYPE_CHECKING:
    from slabmon.kernel.settings import Settings
    from slabmon.sources.daemon import DaemonSource

LOCAL_DAEMON = "the local daemon if it runs, else a local session, which needs root"
LOCAL_SESSION = "a local session, which needs root"


def add_connect(parser: argparse.ArgumentParser, default: str = LOCAL_DAEMON) -> None:
    """Add --connect and --ca-file."""
    parser.add_argument(
        "--connect",
        metavar="URL",
        help="a running daemon: http://HOST:PORT, https://HOST:PORT or unix:/PATH "
        f"(default: {default})",
    )
    parser.add_argument(
        "--ca-file",
        type=Path,
        metavar="FILE",
        help="CA certificates to verify https:// with (default: the system's)",
    )


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Add --replay."""
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="a recording made by `slabmon record`"
    )


def take_times(parser: argparse.ArgumentParser) -> None:
    """Let -10m be a value, as -10 is; argparse would take it for an option. The parser must not
    have an option that looks like this."""
    parser._negative_number_matcher = re.compile(r"-\d+(?:\.\d*)?[a-z]?$")


def refuse_elsewhere(options: argparse.Namespace, *names: str) -> None:
    """Raise UsageError if options of a local session are combined with another source."""
    source = next(
        (name for name in ("connect", "replay") if getattr(options, name, None) is not None), ""
    )
    for name in names:
        if source and getattr(options, name) not in (None, False):
            raise UsageError(
                f"--{name.replace('_', '-')} configures a local session and cannot be combined "
                f"with --{source}; use one of them"
            )


def warn_of_damage(damaged: Mapping[float, str]) -> None:
    """Say how many snapshots of a past were left out because they cannot be read, and why the first
    was."""
    if damaged:
        count = "a snapshot was" if len(damaged) == 1 else f"{len(damaged)} snapshots were"
        sys.stderr.write(f"slabmon: warning: {count} left out: {damaged[min(damaged)]}\n")


def open_source(options: argparse.Namespace, settings: Settings) -> SnapshotSource:
    """Return the source that --replay or --connect names, else a local session."""
    replay: Path | None = getattr(options, "replay", None)
    if replay is not None:
        if options.connect is not None:
            raise UsageError("--connect and --replay cannot be combined; use one of them")
        from slabmon.sources.recording import RecordingSource

        return RecordingSource(replay)
    if options.connect is not None:
        from slabmon.sources.daemon import DaemonSource

        return DaemonSource(options.connect, options.ca_file)
    from slabmon.sources.live import LiveSource

    return LiveSource(settings)


def open_nearest(
    options: argparse.Namespace,
    settings: Settings,
    ask: Callable[[DaemonSource], object] = lambda daemon: daemon.snapshot(),
) -> SnapshotSource:
    """Return the source as open_source(), but prefer the local daemon, if it answers what is asked
    on its default socket, to a local session. A daemon that is there and does not answer is a
    warning; it is an error where there can be no local session, without root."""
    if options.connect is not None or options.replay is not None:
        return open_source(options, settings)
    from slabmon.runtime.listeners import DEFAULT_SOCKET
    from slabmon.sources.daemon import DaemonSource, NoDaemon
    from slabmon.sources.live import LiveSource

    daemon = DaemonSource(f"unix:{DEFAULT_SOCKET}")
    instead_of = ""
    try:
        with daemon:
            ask(daemon)
        return daemon
    except NoDaemon:
        pass
    except SlabmonError as error:
        if os.geteuid() == 0:
            instead_of = str(error)
            sys.stderr.write(f"slabmon: warning: watching in a local session instead: {error}\n")
        elif not isinstance(error, PermissionDenied):  # whose remedy the local session names
            raise
    return LiveSource(settings, instead_of)
