# SPDX-License-Identifier: Apache-2.0
"""Every setting of the daemon: the table behind configuration file, flags of `serve`,
docs/configuration.md and the example file.

Types, defaults and limits are those of the dataclasses; this table says what a setting means and
whether SIGHUP applies it. `python -m slabmon.daemon.options docs` and `... example` print the two
files that `make docs` writes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args, get_type_hints

from slabmon.base.errors import UsageError
from slabmon.base.limits import Limits, number
from slabmon.daemon.census_settings import ScheduleSettings
from slabmon.daemon.escalation_settings import EscalationSettings
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.settings import Settings, When
from slabmon.runtime.budget import BudgetSettings
from slabmon.runtime.logs import LogSettings
from slabmon.state.settings import StateSettings
from slabmon.store.settings import HistorySettings
from slabmon.web.settings import WebSettings

TABLES: Mapping[str, type] = {
    "web": WebSettings,
    "tracking": Settings,
    "budget": BudgetSettings,
    "state": StateSettings,
    "history": HistorySettings,
    "census": ScheduleSettings,
    "escalation": EscalationSettings,
    "log": LogSettings,
}
ABOUT: Mapping[str, str] = {
    "web": "Addresses and limits of the HTTP side. TLS and passwords are in `config_file`.",
    "tracking": "What is counted and tracked, and the sizes of the tables in the kernel.",
    "budget": "The CPU time that slabmon itself may use.",
    "state": "Counting over restarts of the daemon.",
    "history": "Snapshots of the past: `GET /api/v1/snapshot?at=TIME` and the page's time slider.",
    "census": "Censuses of all slab memory in use: `GET /api/v1/census` and metrics.",
    "escalation": "A closer look at suspected leaks that lack stacks or certainty "
    "(docs/verdicts.md).",
    "log": "Logging: to the journal under systemd, else to standard error.",
}
# Paragraphs of Markdown.
INTRODUCTION = """\
`slabmon serve --config FILE` reads a TOML file; every setting is also a flag, which takes
precedence. `--config.check` checks both and exits. A mistake is one line that names the file and
the key, or the flag, and exit code 2.

SIGHUP (`systemctl reload slabmon`) reads the file again. Settings marked *live* change at once; a
change of another one is logged and waits for a restart. A mistake in the file is logged, and
nothing changes. Without `--config`, SIGHUP ends the daemon as SIGTERM does."""


@dataclass(frozen=True)
class Option:
    """One setting.

    `live`: SIGHUP applies a change; others need a restart. `unset`: the effect of having no value,
    where the default is None. `example`: a value to show where there is no default.
    """

    table: str
    name: str
    help: str
    live: bool = False
    unset: str = ""
    example: Any = None
    parse: Callable[[str], Any] | None = None
    flag_name: str = ""

    @property
    def key(self) -> str:
        """TABLE.NAME."""
        return f"{self.table}.{self.name}"

    @property
    def flag(self) -> str:
        """The flag of `serve`."""
        if self.flag_name.startswith("--"):
            return self.flag_name
        return f"--{self.table}.{self.flag_name or self.name.replace('_', '-')}"

    @property
    def type(self) -> type:
        """str, bool, int or float: the type in the file."""
        if self.parse:
            return str
        hint = get_type_hints(TABLES[self.table])[self.name]
        kind: type = next((kind for kind in get_args(hint) if kind is not type(None)), hint)
        return kind

    @property
    def default(self) -> Any:
        """The default of its dataclass field."""
        return next(f.default for f in fields(TABLES[self.table]) if f.name == self.name)

    @property
    def limits(self) -> tuple[float, float] | None:
        """The lowest and highest value allowed; None: not limited."""
        limits: Limits = getattr(TABLES[self.table], "LIMITS", {})
        return limits.get(self.name)

    @property
    def limits_text(self) -> str:
        """The limits in words; "" if it is not limited."""
        return " to ".join(number(limit) for limit in self.limits) if self.limits else ""

    @property
    def metavar(self) -> str:
        """The placeholder for its value in the help."""
        return {bool: "true|false", int: "N", float: "N"}.get(self.type, "TEXT")

    def written(self, value: Any) -> str:
        """Return a value as TOML."""
        if isinstance(value, bool):
            return str(value).lower()
        return f'"{value}"' if isinstance(value, str) else f"{value}"

    @property
    def sample(self) -> str:
        """The default, or else the example, as TOML."""
        return self.written(self.example if self.default is None else self.default)


def _when(text: str) -> When:
    """Return one of When. Raises UsageError."""
    if text not in list(When):
        raise UsageError(f"expected {', '.join(When)}, got {text!r}")
    return When(text)


def _absolute(path: str) -> str:
    """Return the path as seen from any directory: the web process runs in another one."""
    return path and os.path.abspath(path)


OPTIONS: tuple[Option, ...] = (
    Option(
        "web",
        "listen_address",
        "HOST:PORT to listen on; an empty host means all interfaces. The service listens where "
        "slabmon.socket says instead",
    ),
    Option(
        "web",
        "socket_path",
        "path of the unix socket for local clients, accessible to the group slabmon; an empty "
        "text means none. The service gets it from slabmon.socket",
        unset="/run/slabmon/slabmon.sock where it can be created",
        example="/run/slabmon/slabmon.sock",
    ),
    Option(
        "web",
        "config_file",
        "TLS and passwords, in exporter-toolkit's format (YAML); re-read when it changes",
        live=True,
        unset="plain HTTP without a password",
        example="/etc/slabmon/web.yml",
        flag_name="config.file",
        parse=_absolute,
    ),
    Option("web", "telemetry_path", "path of the metrics", live=True),
    Option(
        "web",
        "max_series",
        "series per scrape; caches, call sites and devices beyond it are added up as `other`",
        live=True,
    ),
    Option(
        "web",
        "cache_include",
        "caches that may have series of their own: names, aliases, families or patterns such as "
        "kmalloc-*, separated by commas; the others are part of `other`; empty: all caches",
        live=True,
    ),
    Option(
        "web",
        "cache_exclude",
        "caches that are always part of `other`, written as cache_include",
        live=True,
    ),
    Option(
        "web",
        "cache_pin",
        "caches that have series of their own whatever they hold, written as cache_include, as "
        "far as max_series allows: for dashboards and alerts on single caches; names that no cache "
        "has are logged at the start",
        live=True,
    ),
    Option(
        "web",
        "user",
        "user that the web process runs as",
        live=True,
        unset="slabmon where it exists, else nobody",
        example="slabmon",
    ),
    Option(
        "web",
        "budget_seconds",
        "seconds that a request waits for the kernel's tables to be read",
        live=True,
    ),
    Option("web", "max_connections", "open connections", live=True),
    Option("web", "max_connections_per_client", "open connections from one address", live=True),
    Option(
        "web",
        "request_seconds",
        "seconds that a client may take to send a request, or the next one",
        live=True,
    ),
    Option(
        "web", "response_seconds", "seconds that a client may take to read an answer", live=True
    ),
    Option(
        "tracking",
        "when",
        "when allocation events are counted: always; auto, only while memory grows, somebody "
        "looks, or wake_interval says so; or off. Slab memory by cache, devices, the memory of the "
        "host and censuses are shown in any case",
        flag_name="--tracking",
        parse=_when,
    ),
    Option(
        "tracking",
        "wake_interval",
        "with auto: time between half hours in which events are counted whatever happens, such as "
        "6h or 1d; 0: none",
    ),
    Option(
        "tracking",
        "sample_bytes",
        "mean allocated bytes between samples; less is more precise and costs more",
        live=True,
    ),
    Option(
        "tracking",
        "exact",
        "track every allocation that matches KEY=VALUE[,KEY=VALUE] instead of sampling; keys: "
        "cache, family, module, site, min_size, max_size, cgroup, pid",
        unset="sampling",
        example="module=nvme",
        parse=Filter.parse,
    ),
    Option(
        "tracking",
        "pages",
        "count page allocator events whenever allocation events are counted: by order and GFP "
        "class, and a sample of the kernel's pages by caller, at a cost to every page fault. With "
        "when = auto pages are sampled anyway while memory grows that no counter names",
    ),
    Option(
        "tracking",
        "stack_frames",
        "frames of kernel stacks stored for tracked objects; 0: no stacks",
    ),
    Option(
        "tracking",
        "site_slots",
        "kinds of allocation that each CPU has room for; a power of two",
        unset="4096, less on machines with many CPUs",
        example=4096,
    ),
    Option(
        "tracking",
        "cache_slots",
        "caches that each CPU has room for in its table of frees; a power of two",
        unset="1024",
        example=1024,
    ),
    Option("tracking", "samples", "objects tracked at a time; a multiple of 4096"),
    Option("tracking", "caches", "caches whose names are stored"),
    Option("tracking", "stacks", "distinct kernel stacks stored at a time"),
    Option(
        "tracking",
        "slabinfo",
        "read /proc/slabinfo for each snapshot, which takes the locks of all caches; without it "
        "only caches that were seen in events are shown",
    ),
    Option(
        "budget",
        "cpu_percent",
        "percent of one CPU for each CPU of the host that slabmon may use, BPF programs included; "
        "0: no limit. Above it the sampling interval grows, then collectors are stopped",
        live=True,
    ),
    Option(
        "budget",
        "bpf_statistics",
        "measure the run time of slabmon's BPF programs: enables the kernel's BPF statistics for "
        "one second in each minute, at two clock reads per run of any BPF program on the host. "
        "Without it slabmon_bpf_run_seconds_total does not advance and the budget covers the two "
        "processes only",
        live=True,
    ),
    Option(
        "state",
        "keep",
        "continue counting in the kernel over restarts and crashes: kept in systemd's file "
        "descriptor store, or else pinned below pin_directory; and verdicts, in a file beside "
        "lock_file",
    ),
    Option("state", "lock_file", "file that only one daemon at a time can hold"),
    Option(
        "state",
        "pin_directory",
        "directory in which kernel objects are pinned without systemd; a BPF file system is "
        "mounted there if there is none",
    ),
    Option(
        "history",
        "path",
        "file of the history, such as /var/lib/slabmon/history/slabs.db; its directory is created "
        "for web.user if there is none; an empty text means no history",
        live=True,
    ),
    Option("history", "interval_seconds", "seconds between snapshots", live=True),
    Option("history", "keep", "how long snapshots are kept, such as 12h or 7d", live=True),
    Option(
        "history",
        "max_size",
        "the oldest snapshots are deleted while the file is larger, such as 64M or 2G",
        live=True,
    ),
    Option(
        "census",
        "interval",
        "time between censuses, such as 30m or 1h; 0: only on request. None is taken while the "
        "budget is exceeded",
        live=True,
    ),
    Option("census", "cpu_seconds", "CPU time that one census may use", live=True),
    Option("census", "memory_mib", "memory that the process of one census may use, MiB", live=True),
    Option(
        "census",
        "orphans",
        "look for objects that nothing refers to, and for those that only a device leads to, which "
        "takes two to three times the CPU time",
        live=True,
    ),
    Option(
        "escalation",
        "enabled",
        "track a suspect that lacks stacks or certainty exactly for a while, or look for objects "
        "that nothing refers to; not while the budget is exceeded",
        live=True,
    ),
    Option("escalation", "seconds", "seconds for which one suspect is tracked exactly", live=True),
    Option(
        "escalation",
        "pause",
        "time from one closer look to the next, such as 10m; longer if the budget needs it",
        live=True,
    ),
    Option("log", "level", "lowest level that is logged: debug, info, warning or error", live=True),
)


def by_table() -> Iterator[tuple[str, list[Option]]]:
    """Yield each table with its options, in order."""
    for table in TABLES:
        yield table, [option for option in OPTIONS if option.table == table]


def _default_text(option: Option) -> str:
    return option.unset if option.default is None else f"`{option.sample}`"


def markdown() -> str:
    """Return docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Generated by `make docs` from `slabmon/daemon/options.py`: do not edit.",
        "",
        INTRODUCTION,
    ]
    for table, options in by_table():
        lines += ["", f"## [{table}]", "", ABOUT[table], ""]
        lines += ["| key | flag | default | limits | live | |", "|---|---|---|---|---|---|"]
        for option in options:
            lines.append(
                f"| `{option.name}` | `{option.flag}` | {_default_text(option)} | "
                f"{option.limits_text} | {'live' if option.live else ''} | {option.help} |"
            )
    return "\n".join(lines) + "\n"


def example() -> str:
    """Return systemd/slabmon.toml: every setting, commented out."""
    lines = [
        # REUSE-IgnoreStart
        "# SPDX-License-Identifier: Apache-2.0",
        # REUSE-IgnoreEnd
        "# slabmon's configuration. Every setting is shown with its default, or with an example",
        "# where there is none. Check a change with: slabmon serve --config FILE --config.check",
        "# Settings marked (live) take effect with: systemctl reload slabmon",
    ]
    for table, options in by_table():
        lines += ["", f"# {ABOUT[table]}", f"[{table}]"]
        for option in options:
            note = f" If unset: {option.unset}." if option.unset else ""
            limits = f" From {option.limits_text}." if option.limits else ""
            live = " (live)" if option.live else ""
            text = f"{option.help[0].upper()}{option.help[1:]}.{limits}{note}{live}"
            lines += ["", *_wrapped(text), f"#{option.name} = {option.sample}"]
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> list[str]:
    import textwrap

    return [f"# {line}" for line in textwrap.wrap(text, 96)]


if __name__ == "__main__":
    sys.stdout.write({"docs": markdown, "example": example}[sys.argv[1]]())
