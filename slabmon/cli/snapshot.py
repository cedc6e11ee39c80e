# SPDX-License-Identifier: Apache-2.0
"""slabmon snapshot: tracks for a while, prints once, leaves nothing attached."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slabmon.base.errors import UsageError
from slabmon.base.format import duration
from slabmon.base.names import cache_family, kernel_name
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.settings import Settings
from slabmon.runtime.progress import share_bar, wait
from slabmon.views.catalogue import VIEWS
from slabmon.views.columns import LIVE_BYTES
from slabmon.views.drilldown import grouped_view

if TYPE_CHECKING:
    from slabmon.model import Snapshot
    from slabmon.views.table import Table

_MAX_SECONDS = 24 * 3600
_MOST_ROWS = 15  # of each of several tables


def seconds(text: str) -> float:
    """Parse a duration of up to a day."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"expected seconds from 0 to {_MAX_SECONDS}, got {text!r}")
    return value


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "snapshot",
        parents=[common],
        help="track for a while, print once",
        description="Tracks kernel allocations for a while, prints once, and leaves nothing "
        "attached. Needs root.",
    )
    parser.add_argument(
        "--seconds", type=seconds, default=2.0, metavar="N", help="how long to track (default 2)"
    )
    parser.add_argument(
        "--format", choices=("json", "csv", "table"), default="table", help="default table"
    )
    parser.add_argument(
        "--view",
        choices=tuple(VIEWS),
        metavar="VIEW",
        help=f"what csv and table show: {', '.join(VIEWS)} (default: csv caches, table several)",
    )
    parser.add_argument(
        "--by",
        metavar="DIM[,DIM]",
        help="group live memory by dimensions of the tracked objects: cache, family, site, caller, "
        "module, stack, process, pid, cgroup, workload, unit, "
        "container, pod, namespace, context, device, gfp, modifiers, size, age",
    )
    parser.add_argument(
        "--exact",
        metavar="FILTER",
        help="track every allocation that matches KEY=VALUE[,KEY=VALUE] instead of samples; "
        "keys: cache, family, module, site, min_size, max_size, cgroup, pid",
    )
    parser.add_argument(
        "--pages",
        action="store_true",
        help="also count page allocator events, and sample the kernel's pages by caller",
    )
    parser.add_argument(
        "--sample-bytes",
        type=int,
        default=Settings.sample_bytes,
        metavar="N",
        help=f"mean allocated bytes between samples (default {Settings.sample_bytes})",
    )
    parser.set_defaults(run=run)


def _nothing_live(snapshot: Snapshot, settings: Settings) -> str:
    """Return why no allocation of a snapshot is live."""
    feature = snapshot.features.get("exact_filter")
    reason = feature.reason if feature else ""
    seconds = duration(snapshot.tracking.seconds)
    if settings.exact is None:
        return (
            f"no sampled allocation is live after {seconds}; watch longer with --seconds, sample "
            "more with a smaller --sample-bytes, or see all slab memory with slabmon census"
        )
    text = f"nothing that matches the filter is live after {seconds}"
    return f"{text}: {reason}" if reason else text


def _order(table: Table, exact: Filter | None) -> Sequence[int]:
    """Return the order of rows; with a filter, what it names or has tracked comes first."""
    order: list[int] = table.order().tolist()
    if exact is None or LIVE_BYTES not in table.columns:
        return order
    live, rows = table.values(LIVE_BYTES.name), table.listing.rows
    return sorted(order, key=lambda row: (not _names(exact, rows[row]), -live[row]))


def _names(exact: Filter, row: object) -> bool:
    """Return whether a filter names the cache, or the call site, of a row."""
    from slabmon.model import Cache, Site

    if isinstance(row, Cache):
        names = {kernel_name(row.name), row.name, *row.aliases}
        return exact.cache in names or exact.family in {cache_family(name) for name in names}
    if isinstance(row, Site):
        module = exact.module and exact.module.replace("-", "_")
        return row.symbol == exact.function or (row.module is not None and row.module == module)
    return False


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from slabmon.analysis.grouping import parse_dimensions
    from slabmon.export import text
    from slabmon.kernel.census.run import take_census
    from slabmon.kernel.census.settings import CensusSettings
    from slabmon.kernel.session import open_tracker
    from slabmon.views.table import Table

    if options.by is not None and options.view:
        raise UsageError("--by and --view cannot be combined; use one of them")
    if options.view == "pages" and not options.pages:
        raise UsageError("--view pages needs --pages: page events are not counted by default")
    by = parse_dimensions(options.by) if options.by is not None else ()
    view = grouped_view(by) if by else VIEWS[options.view or "caches"]
    settings = Settings(
        sample_bytes=options.sample_bytes,
        exact=Filter.parse(options.exact) if options.exact is not None else None,
        pages=options.pages,
    )
    with open_tracker(settings) as tracker:
        wait(options.seconds, "watching")
        snapshot = tracker.snapshot(details=view.details or options.format == "json")
    if (by or settings.exact is not None) and not len(snapshot.tracked.bytes):
        sys.stderr.write(f"slabmon: {_nothing_live(snapshot, settings)}\n")
    if view.census and options.format != "json":
        with share_bar("reading slabs") as progress:
            snapshot = replace(snapshot, census=take_census(CensusSettings(), progress))
    if options.format == "json":
        sys.stdout.write(text.to_json(snapshot, by) + "\n")
        return 0
    if options.format == "csv":
        sys.stdout.write(text.to_csv(Table.of(view, snapshot)))
    elif by or options.view:
        table = Table.of(view, snapshot)
        sys.stdout.write(text.to_table(table, _order(table, settings.exact)))
    else:
        for name in ("caches", "sites", "devices", "gfp"):
            table = Table.of(VIEWS[name], snapshot)
            order = _order(table, settings.exact)[:_MOST_ROWS]
            sys.stdout.write(f"{name}\n{text.to_table(table, order)}\n")
        lost = {reason: count for reason, count in snapshot.losses.items() if count}
        sys.stdout.write(f"losses: {lost or 'none'}\n")
    return 0
