# SPDX-License-Identifier: Apache-2.0
"""The options --connect and --replay, and the source they choose."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from slabmon.base.errors import SlabmonError, UsageError
from slabmon.sources import SnapshotSource

if TYPE_CHECKING:
    from slabmon.kernel.settings import Settings


def add_connect(parser: argparse.ArgumentParser) -> None:
    """Adds --connect and what goes with it."""
    parser.add_argument(
        "--connect",
        metavar="URL",
        help="a running daemon: http://HOST:PORT, https://HOST:PORT, unix:/PATH; "
        "default: programs of its own",
    )
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="certificates that https:// is verified with"
    )


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Adds --replay."""
    parser.add_argument("--replay", type=Path, metavar="FILE", help="a recording, see `record`")


def take_times(parser: argparse.ArgumentParser) -> None:
    """Lets -10m be a value: argparse takes it for an option otherwise. As with -10, which it does
    not, the parser must have no such option."""
    parser._negative_number_matcher = re.compile(r"-\d+(?:\.\d*)?[a-z]?$")


def refuse_elsewhere(options: argparse.Namespace, *names: str) -> None:
    """UsageError if options that are about programs of its own come with another source."""
    source = next(
        (name for name in ("connect", "replay") if getattr(options, name, None) is not None), ""
    )
    for name in names:
        if source and getattr(options, name) not in (None, False):
            raise UsageError(
                f"--{name.replace('_', '-')} is for programs of its own and does not go with "
                f"--{source}: what is tracked there is set up there; leave one out"
            )


def open_source(options: argparse.Namespace, settings: Settings) -> SnapshotSource:
    """The source that --replay or --connect names, else a live one with these settings."""
    replay: Path | None = getattr(options, "replay", None)
    if replay is not None:
        if options.connect is not None:
            raise UsageError("--connect and --replay exclude each other; choose one")
        from slabmon.sources.recording import RecordingSource

        return RecordingSource(replay)
    if options.connect is not None:
        from slabmon.sources.daemon import DaemonSource

        return DaemonSource(options.connect, options.ca_file)
    from slabmon.sources.live import LiveSource

    return LiveSource(settings)


def open_nearest(options: argparse.Namespace, settings: Settings) -> SnapshotSource:
    """As open_source(), but before programs of its own comes the daemon that runs here, if it
    answers where it listens by default."""
    if options.connect is None and options.replay is None:
        from slabmon.runtime.listeners import DEFAULT_SOCKET
        from slabmon.sources.daemon import DaemonSource

        daemon = DaemonSource(f"unix:{DEFAULT_SOCKET}")
        try:
            with daemon:
                daemon.snapshot()
        except SlabmonError:
            pass
        else:
            return daemon
    return open_source(options, settings)
