# SPDX-License-Identifier: Apache-2.0
"""slabmon census: reports what slab memory holds now, including allocations before tracking."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost, UsageError
from slabmon.base.names import cache_family, with_near_names
from slabmon.base.retained import RetainedBy
from slabmon.cli.daemon_answer import wait_for
from slabmon.cli.source_options import add_connect, refuse_elsewhere
from slabmon.kernel.census.settings import CensusSettings
from slabmon.runtime.progress import share_bar

if TYPE_CHECKING:
    from slabmon.census.model import Census, CgroupObjects

_ORPHANS_CPU_SECONDS = 600.0
_FAMILY = "family="
_MOST_BYTES = 64 << 20  # of a file


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "census",
        parents=[common],
        help="report what slab memory holds now, including allocations before tracking",
        description="Reads all slabs of the running kernel once, attaches nothing, and prints what "
        "is in them: objects in use by cache, by the memory cgroup they are charged to, or by what "
        "they are and whose: their struct, the functions they hold, what points to them.",
    )
    parser.add_argument(
        "--cache",
        metavar="NAME",
        help="only this cache, by its name or an alias; family=kmalloc-64 means all kinds of it",
    )
    parser.add_argument(
        "--by",
        choices=("cache", "cgroup", "signature", "type", "module", "device"),
        help="what rows show (default cache); device: what only a device leads to, which takes a "
        "third of the search of --orphans",
    )
    parser.add_argument(
        "--retained",
        choices=[kind.value for kind in RetainedBy],
        help="show what would be lost with each device, module, cgroup or process: objects that "
        "nothing else leads to",
    )
    parser.add_argument(
        "--orphans",
        action="store_true",
        help="look for objects that nothing in the kernel's memory refers to: lost, or leaked",
    )
    parser.add_argument(
        "--since",
        type=Path,
        metavar="FILE",
        help="show what has changed since the census in FILE, which --format json wrote",
    )
    parser.add_argument(
        "--format", choices=("table", "json", "csv"), default="table", help="default table"
    )
    parser.add_argument(
        "--cpu-seconds",
        type=float,
        metavar="N",
        help=f"seconds of CPU time it may use (default {CensusSettings.cpu_seconds:g}, "
        f"{_ORPHANS_CPU_SECONDS:g} with --orphans, --retained and --by device)",
    )
    parser.add_argument(
        "--memory-mib",
        type=int,
        metavar="N",
        help=f"MiB of memory it may use (default {CensusSettings.memory_mib})",
    )
    add_connect(parser, "the kernel of this host, which needs root")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    from slabmon.census.diff import diff, only_changed
    from slabmon.export import census as export
    from slabmon.kernel.census.run import take_census

    refuse_elsewhere(options, "cpu_seconds", "memory_mib")
    if options.orphans and options.by is not None and options.format != "json":
        raise UsageError(
            "--by: rows of --orphans are by cache and by what they are; leave --by out, or use "
            "--format json, which has all rows"
        )
    if options.retained is not None:
        _check_retained(options)
    if options.cache is not None and options.by == "device":
        raise UsageError(
            "--cache: rows of --by device are of all caches; leave --cache out, or use --by "
            "signature"
        )
    names = ("cpu_seconds", "memory_mib", "orphans")
    limits = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    kind = RetainedBy(options.retained) if options.retained else None
    if options.by == "device":
        kind = RetainedBy.DEVICE
    if kind is not None:
        limits["retained"] = kind
    if options.orphans or kind is not None:
        limits.setdefault("cpu_seconds", _ORPHANS_CPU_SECONDS)
    settings = CensusSettings(**limits)
    if options.connect is None and os.geteuid() != 0:
        raise PermissionDenied(
            "a census needs root; run slabmon census as root, with sudo, or with --connect"
        )
    if options.connect is None and options.cache is not None:
        _check_cache(options.cache)
    before = None if options.since is None else _read(options.since)
    with share_bar("reading slabs") as progress:
        census = (
            wait_for(options.connect, options.ca_file, lambda daemon: daemon.census(), progress)
            if options.connect is not None
            else take_census(settings, progress)
        )
    if options.orphans and census.passes == 1:
        raise _no_orphans(census)
    if kind is RetainedBy.DEVICE and not census.devices:
        raise _no_devices(census)
    if kind not in (None, RetainedBy.DEVICE) and not census.retained:
        error = _why(census)
        if error is not None:
            raise error
    since = None
    if before is not None:
        census, since = diff(before, census), before.taken
    if options.cache is not None:
        census = only_cache(census, options.cache)
    if before is not None:
        census = only_changed(census)
    by = export.By.ORPHAN if options.orphans else export.By(options.by or "cache")
    if options.retained is not None:
        by = export.By.DEVICE if kind is RetainedBy.DEVICE else export.By.RETAINED
    if options.format == "json":
        sys.stdout.write(export.to_json(census, since) + "\n")
    elif options.format == "csv":
        sys.stdout.write(export.to_csv(census, by, since))
    else:
        sys.stdout.write(export.to_table(census, by, since))
    return 0


def _check_retained(options: argparse.Namespace) -> None:
    for name in ("by", "cache", "orphans"):
        if getattr(options, name):
            raise UsageError(
                f"--retained: rows are of what retains objects, which does not go with --{name}; "
                "leave one of them out"
            )
    if options.connect is not None and options.retained != RetainedBy.DEVICE:
        raise UsageError(
            "--retained: a daemon looks for what devices retain only; leave --connect out, or use "
            "--retained device"
        )


def _why(census: Census, devices: bool = False) -> SlabmonError | None:
    """Return the error that says why a census lacks what was asked for, `devices` or anything else
    that is searched for with orphans; None if nothing does."""
    from slabmon.census.model import DEVICES_UNSUPPORTED, NO_ORPHANS, ORPHANS_UNSUPPORTED

    for text in census.limits:
        if text.startswith(ORPHANS_UNSUPPORTED) or (
            devices and text.startswith(DEVICES_UNSUPPORTED)
        ):
            return UnsupportedHost(f"census: {text}")
        if text.startswith(NO_ORPHANS):
            return SlabmonError(f"census: {text}")
    return None


def _no_orphans(census: Census) -> SlabmonError:
    """Return the error that says why a census has no orphans."""
    return _why(census) or UsageError(
        "census: this daemon does not look for orphans; set orphans = true in the [census] table "
        "of its configuration"
    )


def _no_devices(census: Census) -> SlabmonError:
    """Return the error that says why a census does not know what devices hold."""
    return _why(census, devices=True) or UsageError(
        "census: this daemon does not look for what devices hold; set orphans = true in the "
        "[census] table of its configuration"
    )


def _read(path: Path) -> Census:
    """Return the census in a file. Raises UsageError if there is none."""
    import msgspec

    from slabmon.export.census import from_json

    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except PermissionError as error:
        raise PermissionDenied(f"--since: cannot read {path}: {error.strerror}") from error
    except OSError as error:
        raise UsageError(f"--since: cannot read {path}: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise UsageError(f"--since: {path}: expected a census, got more than {_MOST_BYTES} bytes")
    try:
        msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UsageError(
            f"--since: {path} is not what `slabmon census --format json` writes"
        ) from error
    return from_json(data, f"--since: {path}")


def _check_cache(name: str) -> None:
    """Raise UsageError, before all slabs are read, if this kernel has no cache or family of this
    name."""
    from slabmon.kernel.probe import slabinfo
    from slabmon.model import LARGE_CACHE

    directory = slabinfo.SlabDirectory()
    directory.refresh()
    if directory.names:  # () if sysfs does not show them
        names = {*directory.names, LARGE_CACHE}
        families = {cache_family(each) for each in names}
        if name not in names and name.removeprefix(_FAMILY) not in families:
            raise UsageError(_unknown(names, families, name))


def only_cache(census: Census, name: str) -> Census:
    """Return what a census says of one cache, or of one family of caches. Raises UsageError if it
    has no such cache."""
    from slabmon.model import LARGE_CACHE

    caches = tuple(row for row in census.caches if name == row.name or name in row.aliases)
    if not caches:
        wanted = name.removeprefix(_FAMILY)
        caches = tuple(row for row in census.caches if cache_family(row.name) == wanted)
    if not caches:
        known = {each for row in census.caches for each in (row.name, *row.aliases)}
        families = {cache_family(row.name) for row in census.caches}
        raise UsageError(_unknown(known, families, name))
    names = {row.name for row in caches}
    cgroups = (_only(row, names) for row in census.cgroups)
    return dataclasses.replace(
        census,
        caches=caches,
        objects=sum(row.in_use for row in caches),
        page_blocks=census.page_blocks if LARGE_CACHE in names else (),
        owners=tuple(row for row in census.owners if row.cache in names),
        orphans=tuple(row for row in census.orphans if row.cache in names),
        devices=(),
        retained=(),
        held=tuple(row for row in census.held if row.cache in names),
        cgroups=tuple(
            sorted(
                (row for row in cgroups if row.objects), key=lambda row: (-row.bytes, row.cgroup)
            )
        ),
    )


def _unknown(names: set[str], families: set[str], name: str) -> str:
    wanted, known, what = name, names, "cache"
    if name.startswith(_FAMILY):
        wanted, known, what = name.removeprefix(_FAMILY), families, "family of caches"
    problem = f"--cache: no slab belongs to a {what} called {wanted!r}"
    return with_near_names(problem, wanted, known, "slabmon census lists all")


def _only(row: CgroupObjects, names: set[str]) -> CgroupObjects:
    sizes = {name: size for name, size in row.by_cache.items() if name in names}
    counts = {name: count for name, count in row.objects_by_cache.items() if name in names}
    return dataclasses.replace(
        row,
        objects=sum(counts.values()),
        bytes=sum(sizes.values()),
        by_cache=sizes,
        objects_by_cache=counts,
    )
