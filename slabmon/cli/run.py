# SPDX-License-Identifier: Apache-2.0
"""slabmon run: runs a command, and lists the kernel memory it left behind."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost, UsageError
from slabmon.base.escape import escape
from slabmon.cli.snapshot import seconds
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.settings import Settings
from slabmon.runtime.command import Command, interrupted
from slabmon.runtime.files import write_whole
from slabmon.runtime.rcu import synchronize_rcu

if TYPE_CHECKING:
    from slabmon.analysis.leftovers import Leftovers
    from slabmon.kernel.tracker import Tracker
    from slabmon.model import Snapshot

SETTLE_SECONDS = 10.0
# Tables for the objects and stacks of one command, instead of a sample of the whole host's.
_SETTINGS = Settings(samples=256 * 1024, stacks=64 * 1024, stack_frames=64)
_DRAIN_SECONDS = 0.05
_EVICT_SECONDS = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
# When the slabs are read, at the earliest, and at most this share of the time.
_FIRST_READING_SECONDS, _READING_REST = 0.3, 4.0
_READING_CPU_SECONDS = 60.0
# Keys of the filter that say whose allocations are tracked, instead of the command's.
_OWNER_KEYS = ("module", "site", "cgroup", "pid")
# PROC_PID_INIT_INO (include/linux/proc_ns.h): where process IDs are those that the kernel tells.
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "run",
        parents=[common],
        help="run a command, list the kernel memory it left behind",
        usage="%(prog)s [options] [--] COMMAND [ARGUMENT ...]",
        description="Runs COMMAND and lists by stack the kernel memory that it and the processes "
        "it started allocated and left behind. Exits as COMMAND did: with its exit status, 128 + N "
        "if signal N ended it, 127 or 126 if it cannot be run. Needs root.",
    )
    parser.add_argument(
        "--exact",
        metavar="FILTER",
        help="only what matches KEY=VALUE[,KEY=VALUE], see `slabmon snapshot`; with module, "
        "site, cgroup or pid, whichever process allocated it. COMMAND may load the module",
    )
    parser.add_argument(
        "--settle",
        type=seconds,
        default=SETTLE_SECONDS,
        metavar="SECONDS",
        help="how long to wait, at most, until nothing is left: the kernel frees much of it a "
        f"while later (default {SETTLE_SECONDS:g})",
    )
    parser.add_argument(
        "--error-exitcode",
        type=_exit_code,
        default=0,
        metavar="N",
        help="exit with N if anything is left (default 0: exit as COMMAND did)",
    )
    parser.add_argument(
        "--format",
        choices=("table", "json", "junit", "mail"),
        default="table",
        help="a table, JSON, JUnit XML, or text for a mailing list (default table)",
    )
    parser.add_argument(
        "-o",
        dest="output",
        metavar="FILE",
        help="where to write the report (default: standard error; -: standard output)",
    )
    parser.add_argument("argv", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def _exit_code(text: str) -> int:
    if not text.isdecimal() or int(text) > 255:
        raise argparse.ArgumentTypeError(f"expected an exit status from 0 to 255, got {text!r}")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class _Settled:
    """What is left after a while, and how that was found."""

    after: Snapshot
    left: Leftovers
    seconds: float
    freed_unseen: int
    notes: tuple[str, ...]


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not argv:
        raise UsageError("run: expected a command, got none; give one, as in `slabmon run -- ls`")
    exact = Filter.parse(options.exact) if options.exact is not None else Filter()
    followed = not any(getattr(exact, key) for key in _OWNER_KEYS)
    if followed and os.stat("/proc/self/ns/pid").st_ino != _INITIAL_PID_NAMESPACE:
        raise UnsupportedHost(
            "run: the processes of a command can only be followed in the initial PID namespace; "
            "share it with the container (--pid=host), or name a module or site with --exact"
        )
    # The command first, everything heavy after it: threads of libraries do not survive a fork.
    with Command(argv) as command:
        from slabmon.export.leftovers import Format, RunReport, render
        from slabmon.kernel.session import open_tracker

        if followed:
            exact = replace(exact, process_tree=command.pid)
        with open_tracker(replace(_SETTINGS, exact=exact)) as tracker:
            before = tracker.snapshot()
            if interrupted(0):
                raise KeyboardInterrupt
            start = time.monotonic()
            problem = command.release()
            if problem:
                sys.stderr.write(f"slabmon: error: cannot run {argv[0]}: {problem}\n")
                return command.exit_code or 0
            code = command.wait(_attendance(tracker), _DRAIN_SECONDS)
            end = time.monotonic()
            settled = _settle(tracker, before, exact, options.settle)
    report = RunReport(
        host=settled.after.host,
        command=argv,
        exit_code=code,
        signal=command.signal,
        seconds=end - start,
        settled_seconds=settled.seconds,
        filter=options.exact or "",
        left=settled.left,
        freed_unseen=settled.freed_unseen,
        losses=settled.after.losses,
        notes=settled.notes,
    )
    _write(options.output, render(report, Format(options.format)))
    return options.error_exitcode or code if settled.left.objects else code


def _attendance(tracker: Tracker) -> Any:
    """Return what is done while the command runs: the names of modules are read while these are
    loaded, and stacks that nothing is left of make room for others."""
    due = time.monotonic() + _EVICT_SECONDS

    def attend() -> None:
        nonlocal due
        tracker.drain()
        if time.monotonic() >= due:
            tracker.snapshot()
            due = time.monotonic() + _EVICT_SECONDS

    return attend


def _settle(tracker: Tracker, before: Snapshot, exact: Filter, settle: float) -> _Settled:
    """Wait until nothing is left, for `settle` seconds at most, or until this process is asked to
    end. What seems to be left is looked for in the slabs: not every free has an event."""
    from slabmon.analysis.leftovers import find_leftovers

    module = exact.module and exact.module.replace("-", "_")  # file names may have hyphens

    def look() -> tuple[Snapshot, Leftovers]:
        after = tracker.snapshot(details=True)
        left = find_leftovers(
            before,
            after,
            by_process=not (exact.module or exact.site),
            by_cache=bool(exact.cache or exact.family),
            module=module,
        )
        return after, left

    start = time.monotonic()
    reading_due = start + _FIRST_READING_SECONDS
    pause, stopped, freed, notes = _FIRST_PAUSE, False, 0, list[str]()
    while True:
        synchronize_rcu()
        after, left = look()
        ends = stopped or time.monotonic() - start >= settle
        if left.objects and not notes and (ends or time.monotonic() >= reading_due):
            began = time.monotonic()
            try:
                freed += tracker.forget_freed(_READING_CPU_SECONDS)
            except SlabmonError as error:
                notes.append(f"objects freed in bulk or by kfree_rcu() may be listed: {error}")
            reading_due = time.monotonic() + _READING_REST * (time.monotonic() - began)
            after, left = look()
        if ends or not left.objects:
            break
        stopped = interrupted(min(pause, max(0.0, start + settle - time.monotonic())))
        pause = min(2 * pause, _LONGEST_PAUSE)
    if stopped:
        notes.append("the wait for the kernel to free the rest was interrupted")
    if module and not any(site.module == module for site in after.sites):
        notes.append(f"no allocation of a module {module} was seen")
    if left.objects and exact.process_tree is not None:
        notes[:0] = _still_running(after)
    return _Settled(
        after=after,
        left=left,
        seconds=time.monotonic() - start,
        freed_unseen=freed,
        notes=tuple(notes),
    )


def _still_running(after: Snapshot) -> list[str]:
    """Return a note if processes of the command have not ended: what they use is left, too."""
    names = []
    for pid in sorted(set(after.tracked.tgid.tolist())):
        with suppress(OSError):
            names.append(f"{escape(Path(f'/proc/{pid}/comm').read_bytes().strip())} ({pid})")
    return [f"still running, and using what is listed: {', '.join(names)}"] if names else []


def _write(output: str | None, text: str) -> None:
    if output is None:
        sys.stderr.write(text)
    elif output == "-":
        sys.stdout.write(text)
    else:
        try:
            write_whole(Path(output), text.encode())
        except PermissionError as error:
            raise PermissionDenied(f"cannot write {output}: {error.strerror}") from error
        except OSError as error:
            raise UsageError(f"cannot write {output}: {error.strerror}") from error
