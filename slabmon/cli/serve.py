# SPDX-License-Identifier: Apache-2.0
"""slabmon serve: the daemon."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from slabmon.base.errors import PermissionDenied
from slabmon.daemon.options import by_table


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommand and its options: one flag for each setting."""
    parser = commands.add_parser(
        "serve",
        parents=[common],
        help="run the daemon: metrics, JSON and a web page",
        description="Runs the daemon in the foreground until SIGINT or SIGTERM. Needs root. "
        "Options override the configuration file.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML configuration file")
    parser.add_argument(
        "--config.check",
        dest="config_check",
        action="store_true",
        help="check the configuration and exit",
    )
    for table, options in by_table():
        group = parser.add_argument_group(table)
        for option in options:
            shown = option.unset if option.default is None else option.sample
            text = f"{option.help}; default: {shown}".replace("%", "%%")
            group.add_argument(option.flag, dest=option.key, metavar=option.metavar, help=text)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from slabmon.daemon.config import load

    path = options.config and Path(os.path.abspath(options.config))
    flags = {
        option.key: text
        for _, options_of_table in by_table()
        for option in options_of_table
        if (text := getattr(options, option.key)) is not None
    }
    config = load(path, flags)
    if options.config_check:
        if config.web.config_file:
            check_web_config(Path(config.web.config_file))
        sys.stdout.write("configuration is valid\n")
        return 0
    if os.geteuid() != 0:
        raise PermissionDenied(
            "slabmon serve must be started as root: it loads BPF programs and runs its web process "
            "as another user"
        )
    from slabmon.runtime.tuning import SINGLE_THREADED

    os.environ.update(SINGLE_THREADED)  # before numpy: a thread per CPU counts against TasksMax
    from slabmon.daemon.main import Daemon
    from slabmon.runtime.logs import set_up

    set_up(config.log)
    Daemon(config, (lambda: load(path, flags)) if path else None).run()
    return 0


def check_web_config(path: Path) -> None:
    """Read a web configuration file and its certificates as the daemon would."""
    from slabmon.web.serving.config import load
    from slabmon.web.serving.tls import make_context

    config = load(path)
    if config.tls:
        make_context(config.tls)
