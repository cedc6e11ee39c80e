# SPDX-License-Identifier: Apache-2.0
"""slabmon memory: accounts for all of the host's memory."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost
from slabmon.cli.daemon_answer import wait_for
from slabmon.cli.source_options import add_connect, refuse_elsewhere
from slabmon.runtime.progress import share_bar

if TYPE_CHECKING:
    from slabmon.memory.ledger import Ledger

# CPU time it may take to read struct pages: a second for each 80 GiB, and one to prepare.
_CPU_SECONDS = 120.0
_OTHER_PAGES = (
    "pages by type: expected members of struct page (flags, mapping, _refcount, ...) that this "
    "kernel's BTF does not have; please report this kernel"
)
_NOT_WATCHED = (
    "pages and per-CPU memory by caller: nothing watches them here; ask a daemon (--connect), or "
    "run slabmon snapshot --pages --view page_sites"
)


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "memory",
        parents=[common],
        help="account for all of the host's memory, down to what is unaccounted",
        description="Prints where all of the host's memory is: rows that, with what is "
        "unaccounted, equal MemTotal to the byte. Reads the kernel's counters, and every struct "
        "page once for kernel pages that no counter names; attaches nothing.",
    )
    parser.add_argument(
        "--format", choices=("table", "json", "csv"), default="table", help="default table"
    )
    parser.add_argument(
        "--cpu-seconds",
        type=float,
        metavar="N",
        help="seconds of CPU time that reading struct pages may use, about one for each 80 GiB "
        f"(default {_CPU_SECONDS:g})",
    )
    add_connect(parser, "the kernel of this host, which needs root")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    from slabmon.export import memory as export

    refuse_elsewhere(options, "cpu_seconds")
    if options.connect is None and os.geteuid() != 0:
        raise PermissionDenied(
            "accounting for all memory needs root; run slabmon memory as root, with sudo, or with "
            "--connect"
        )
    with share_bar("reading struct pages") as progress:
        ledger = (
            wait_for(options.connect, options.ca_file, lambda daemon: daemon.memory(), progress)
            if options.connect is not None
            else _from_kernel(options.cpu_seconds, progress)
        )
    formats = {"json": export.to_json, "csv": export.to_csv, "table": export.to_table}
    text = formats[options.format](ledger)
    sys.stdout.write(text + "\n" * (options.format == "json"))
    return 0


def _from_kernel(cpu_seconds: float | None, progress: Callable[[float], object]) -> Ledger:
    """Return the ledger of this host. Where struct pages cannot be read it says why."""
    from slabmon.kernel.census.run import take_census
    from slabmon.kernel.census.settings import CensusSettings
    from slabmon.memory.ledger import account

    settings = CensusSettings(cpu_seconds=_CPU_SECONDS if cpu_seconds is None else cpu_seconds)
    try:
        census = take_census(settings, progress, pages_only=True)
    except SlabmonError as error:
        return _without_pages(str(error))
    if census.memory is None:
        return _without_pages(_OTHER_PAGES)
    ledger = account(census.memory.reading, census.memory)
    limits = (*ledger.limits, _NOT_WATCHED)
    return dataclasses.replace(ledger, host=census.host, limits=limits)


def _without_pages(reason: str) -> Ledger:
    """Return the ledger of counters alone."""
    from slabmon.kernel.census.collect import host
    from slabmon.kernel.memory.reading import MemoryReader, stack_bytes
    from slabmon.kernel.probe.facts import probe
    from slabmon.memory.ledger import account

    reading = MemoryReader(stack_bytes("OFF_TASK_STACK_AREA" in probe().offsets)).read()
    if reading is None:
        raise UnsupportedHost("memory: /proc/meminfo cannot be read; mount the host's /proc")
    ledger = account(reading)
    return dataclasses.replace(ledger, host=host(), limits=(*ledger.limits, reason, _NOT_WATCHED))
