# SPDX-License-Identifier: Apache-2.0
"""slabmon run: runs a command, and lists the kernel memory it left behind."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slabmon.base.errors import SlabmonError, UnsupportedHost, UsageError
from slabmon.base.escape import escape
from slabmon.cli.snapshot import seconds
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.settings import Settings
from slabmon.runtime.command import Command, interrupted
from slabmon.runtime.files import check_writable, write_whole, writing
from slabmon.runtime.rcu import synchronize_rcu

if TYPE_CHECKING:
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


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    _check(options, argv)
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
            search = _Search(tracker, exact)
            if interrupted(0):
                raise KeyboardInterrupt
            start = time.monotonic()
            problem = command.release()
            if problem:
                sys.stderr.write(f"slabmon: error: cannot run {argv[0]}: {problem}\n")
                return command.exit_code or 0
            code = command.wait(_attendance(tracker), _DRAIN_SECONDS)
            end = time.monotonic()
            _settle(search, options.settle)
            settled_seconds = time.monotonic() - end
    report = RunReport(
        host=search.after.host,
        command=argv,
        exit_code=code,
        signal=command.signal,
        seconds=end - start,
        settled_seconds=settled_seconds,
        filter=options.exact or "",
        left=search.left,
        freed_unseen=search.freed_unseen,
        losses=search.after.losses,
        notes=search.notes,
    )
    _write(options.output, render(report, Format(options.format)))
    return options.error_exitcode or code if search.left.objects else code


def _check(options: argparse.Namespace, argv: list[str]) -> None:
    """Raise an error for what would fail only after the command has run."""
    if not argv:
        raise UsageError("run: expected a command, got none; give one, as in `slabmon run -- ls`")
    if options.output not in (None, "-"):
        with writing(Path(options.output)):
            check_writable(Path(options.output))


def _attendance(tracker: Tracker) -> Callable[[], None]:
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


class _Search:
    """Looks for what is left: `left` and `after` are the last look's, `freed_unseen` counts objects
    that were freed without an event, `notes` are sentences for the report."""

    def __init__(self, tracker: Tracker, exact: Filter) -> None:
        self._tracker, self._exact = tracker, exact
        # As the kernel has it: the names of files may have hyphens.
        self._module = exact.module and exact.module.replace("-", "_")
        self._before = self.after = tracker.snapshot()
        self.freed_unseen = 0
        self.notes: list[str] = []
        self.slabs_readable = True

    def look(self) -> None:
        """Look once."""
        from slabmon.analysis.leftovers import find_leftovers

        exact = self._exact
        self.after = self._tracker.snapshot(details=True)
        self.left = find_leftovers(
            self._before,
            self.after,
            by_process=not (exact.module or exact.site),
            by_cache=bool(exact.cache or exact.family),
            module=self._module,
        )

    def look_in_slabs(self) -> None:
        """Leave out what is no longer allocated, and look again."""
        try:
            self.freed_unseen += self._tracker.forget_freed(_READING_CPU_SECONDS)
        except SlabmonError as error:
            self.slabs_readable = False
            self.notes.append(f"objects freed in bulk or by kfree_rcu() may be listed: {error}")
        self.look()

    def end(self, stopped: bool) -> None:
        """Complete the notes. `stopped`: there was no time to wait."""
        if stopped:
            self.notes.append("the wait for the kernel to free the rest was interrupted")
        if self._module and not any(site.module == self._module for site in self.after.sites):
            self.notes.append(f"no allocation of a module {self._module} was seen")
        if self.left.objects and self._exact.process_tree is not None:
            self.notes[:0] = _still_running(self.after)


def _settle(search: _Search, settle: float) -> None:
    """Look until nothing is left, for `settle` seconds at most, or until this process is asked to
    end. What seems to be left is looked for in the slabs: not every free has an event."""
    start = time.monotonic()
    reading_due = start + _FIRST_READING_SECONDS
    pause, stopped = _FIRST_PAUSE, False
    while True:
        synchronize_rcu()
        search.look()
        ends = stopped or time.monotonic() - start >= settle
        reading = ends or time.monotonic() >= reading_due
        if search.left.objects and search.slabs_readable and reading:
            began = time.monotonic()
            search.look_in_slabs()
            reading_due = time.monotonic() + _READING_REST * (time.monotonic() - began)
        if ends or not search.left.objects:
            break
        stopped = interrupted(min(pause, max(0.0, start + settle - time.monotonic())))
        pause = min(2 * pause, _LONGEST_PAUSE)
    search.end(stopped)


def _still_running(after: Snapshot) -> list[str]:
    """Return a note if processes of the command have not ended: what they use is left, too."""
    names = []
    for pid in sorted(set(after.tracked.tgid[~after.tracked.by_interrupt].tolist())):
        with suppress(OSError):
            names.append(f"{escape(Path(f'/proc/{pid}/comm').read_bytes().strip())} ({pid})")
    return [f"still running, and using what is listed: {', '.join(names)}"] if names else []


def _write(output: str | None, text: str) -> None:
    if output is None:
        sys.stderr.write(text)
    elif output == "-":
        sys.stdout.write(text)
    else:
        with writing(Path(output)):
            write_whole(Path(output), text.encode())
