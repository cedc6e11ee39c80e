# SPDX-License-Identifier: Apache-2.0
"""docs/overhead.md and its figures, from the results in docs/overhead/: `make overhead-docs`."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.overhead_figures import bars, curves, measured

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs/overhead"
PAGE = ROOT / "docs/overhead.md"
HEADER, LOG = RESULTS / "about.md", RESULTS / "log.md"


def load(name: str) -> dict[str, Any]:
    """Return raw results."""
    document: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return document


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield a table in Markdown."""
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"
    yield ""


def _added(row: Mapping[str, Any]) -> str:
    spread = row["added_ns"]
    return f"{round(spread['median'])} ({round(spread['low'])} to {round(spread['high'])})"


def _ratio(row: Mapping[str, Any]) -> str:
    """Return the ratio, or "-" where empty programs took no measurable time."""
    return "-" if row["ratio"] is None else f"{row['ratio']:.2f}"


def _columns(row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return modes and other tools of a real workload by name, those that have figures."""
    columns = {mode["mode"]: mode for mode in row["modes"]}
    return columns | {peer["name"]: peer for peer in row.get("peers", ()) if "absent" not in peer}


def real(bench: Mapping[str, Any]) -> Iterator[str]:
    """Yield CPU time and throughput of real workloads; results of before they were measured have
    none."""
    yield "## Real workloads"
    yield ""
    rows = [row for row in bench.get("real", ()) if "absent" not in row]
    if not rows:
        yield "Not measured yet: `make overhead` measures them."
        yield ""
        return
    names = list(dict.fromkeys(name for row in rows for name in _columns(row)))
    for title, key in (("CPU time", "cpu_ratio"), ("Throughput", "throughput_ratio")):
        yield f"{title}, nothing attached = 1: median (quartiles)"
        yield ""
        yield from table(
            ("", *names),
            [
                (f"{row['workload']}: {row['about']}", *_ratios(_columns(row), names, key))
                for row in rows
            ],
        )
    yield from (
        f"- {row['workload']} does not run here: `{row['absent']}`"
        for row in bench["real"]
        if "absent" in row
    )
    tools = {peer["name"]: peer for row in rows for peer in row.get("peers", ())}
    yield from (
        f"- {name} does not run here: `{peer['absent']}`"
        for name, peer in tools.items()
        if "absent" in peer
    )
    yield ""


def _ratios(
    columns: Mapping[str, Mapping[str, Any]], names: Sequence[str], key: str
) -> Iterator[str]:
    for name in names:
        spread = columns[name][key] if name in columns else None
        yield (
            f"{spread['median']:.2f} ({spread['low']:.2f} to {spread['high']:.2f})"
            if spread
            else "-"
        )


def pairs(bench: Mapping[str, Any]) -> Iterator[str]:
    """Yield slabmon and other tools under the first workload."""
    first = bench["workloads"][0]
    yield f"## A pair of kmalloc and kfree ({first['about']})"
    yield ""
    yield "![Nanoseconds added to a pair](overhead/pairs.svg)"
    yield ""
    rows = [(f"{name}: {row['about']}", _added(row), _ratio(row)) for name, row in measured(bench)]
    yield from table(("", "ns added: median (quartiles)", "empty programs = 1"), rows)
    for peer in bench["peers"]:
        if "absent" in peer:
            yield f"- {peer['name']} does not run here: `{peer['absent']}`"
    yield ""


def workloads(bench: Mapping[str, Any]) -> Iterator[str]:
    """Yield all workloads, per pair of an allocation and its free."""
    names = [mode["mode"] for mode in bench["workloads"][0]["modes"][1:]]
    rows = []
    for workload in bench["workloads"]:
        modes = {mode["mode"]: mode for mode in workload["modes"]}
        rows.append(
            (
                f"{workload['workload']}: {workload['about']}",
                f"{workload['kmalloc_pairs']:g}",
                f"{workload['kmem_cache_pairs']:g}",
                f"{modes['nothing']['iteration_ns']['median']:,.0f}",
                *(
                    f"{round(modes[name]['added_ns']['median'])} ({_ratio(modes[name])})"
                    for name in names
                ),
            )
        )
    yield "## Other workloads"
    yield ""
    yield "Median of the ns added to each pair; in brackets its ratio to the empty programs."
    yield ""
    titles = ("an iteration", "kmalloc pairs", "kmem_cache pairs", "ns without", *names)
    yield from table(titles, rows)


def hot_path(known: Mapping[str, Any]) -> Iterator[str]:
    """Yield the figures of the file that a test compares with."""
    yield "## Instructions, calls, cache lines"
    yield ""
    yield (
        "For one event of a known kind, counted by running the compiled programs step by step: "
        "instructions as the compiler emits them, calls of kernel functions that are not inlined, "
        "64-byte lines of maps and kernel memory. A test fails if an event takes more."
    )
    yield ""
    events = ("kmalloc", "kfree", "kmem_cache_alloc", "kmem_cache_free")
    rows = [
        (
            name,
            *(f"{row[e]['instructions']} / {row[e]['calls']} / {row[e]['lines']}" for e in events),
        )
        for name, row in known.items()
        if events[0] in row
    ]
    yield from table(("mode, how caches are found", *events), rows)
    rows = [
        (f"{event}, {name}", f"{cost['instructions']} / {cost['calls']} / {cost['lines']}")
        for name, row in known.items()
        if events[0] not in row
        for event, cost in row.items()
    ]
    yield ""
    yield from table(("pages that are not tracked", "cost"), rows)


def verifier(programs: Mapping[str, Any]) -> Iterator[str]:
    """Yield the programs loaded for the allocation events, by mode."""
    yield "## Programs"
    yield ""
    yield (
        "Instructions as loaded, and in brackets the number that the verifier processed "
        "(`verified_insns`; its limit is a million). Run times are the kernel's own statistics "
        "under the first workload, and include the cost of these."
    )
    yield ""
    events = ("kmalloc", "kfree", "kmem_cache_alloc", "kmem_cache_free")
    titles = ("mode", *events, "kmalloc ns", "kfree ns")
    rows = []
    for mode, costs in programs.items():
        sizes = (
            f"{costs[event]['instructions']} ({costs[event]['verified_instructions']:,})"
            for event in events
        )
        rows.append((mode, *sizes, *(f"{costs[event]['mean_ns']:.0f}" for event in events[:2])))
    yield from table(titles, rows)


def daemon(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the costs of user space."""
    yield "## The daemon"
    yield ""
    rows = [
        ("start to first metrics", f"{found['start_seconds']} s"),
        ("scrape, the other CPU busy: median", f"{found['scrape_ms']['median']} ms"),
        ("99th percentile", f"{found['scrape_ms']['p99']} ms"),
        ("size of a scrape", f"{found['scrape_bytes']:,} bytes"),
        ("CPU, scraped every second", f"{found['cpu_percent_scraped_each_second']} %"),
        ("CPU, not scraped", f"{found['cpu_percent_not_scraped']} %"),
        ("PSS of both processes", f"{found['pss_mib_total']} MiB"),
    ]
    yield from table(("", ""), rows)


def scale(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the costs on larger hosts, with synthetic tables."""
    yield "## Larger hosts"
    yield ""
    yield (
        "Synthetic tables: 10,000 call sites, 1,000 caches, lanes as full as they may get. "
        "Snapshots are CPU time of the daemon's own code, without symbols, which are looked up "
        "once. Each CPU writes its own cache lines. Shared lines are only read, except for the "
        "filter and the tags of tracked objects, which are spread by hash: contention was reasoned "
        "about, not measured."
    )
    yield ""
    yield "![Time against size](overhead/scale.svg)"
    yield ""
    rows = [
        (
            h["cpus"],
            f"{h['objects']:,}",
            h["slots_per_lane"],
            f"{h['kernel_mib']:.0f}",
            f"{h['snapshot_ms']:.0f}",
        )
        for h in found["hosts"]
    ]
    yield from table(("CPUs", "tracked objects", "slots a lane", "kernel MiB", "snapshot ms"), rows)
    rows = [
        (
            f"{s['sites']:,}",
            f"{s['caches']:,}",
            f"{s['devices']:,}",
            f"{s['ms']:.0f}",
            f"{s['bytes']:,}",
        )
        for s in found["scrapes"]
    ]
    yield from table(("sites", "caches", "devices", "scrape ms", "bytes"), rows)
    yield "Label sets beyond the limits of docs/metrics.md are folded, which bounds the size."
    yield ""


def page() -> str:
    """Return the whole document."""
    bench = load("bench")
    machine = bench["machine"]
    with open(ROOT / "tests/support/hot_path.toml", "rb") as file:
        known = tomllib.load(file)
    lines = [
        HEADER.read_text(),
        f"Measured {machine['time'][:10]}: Linux {machine['kernel']}, {machine['cpu']}, "
        f"{machine['cpus']} virtual CPUs of a shared host, Python {machine['python']}, load "
        f"{machine['load']:.1f}; {bench['workloads'][0]['rounds']} rounds; BPF sources "
        f"`{machine['sources'][:12]}`. Raw results: [docs/overhead/](overhead/).",
        "",
        *real(bench),
        *pairs(bench),
        *workloads(bench),
        *hot_path(known),
        *verifier(bench["programs"]),
        *daemon(load("daemon")),
        *scale(load("scale")),
        LOG.read_text(),
    ]
    return "\n".join(lines)


def main() -> int:
    """Write the page and its figures."""
    (RESULTS / "pairs.svg").write_text(bars(load("bench")))
    (RESULTS / "scale.svg").write_text(curves(load("scale")))
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
