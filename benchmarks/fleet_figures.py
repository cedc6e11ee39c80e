# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/fleet.md, from the results of `make bench-fleet` in docs/fleet.json."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.overhead import table

ROOT = Path(__file__).parent.parent
PAGE, RESULTS = ROOT / "docs/fleet.md", ROOT / "docs/fleet.json"
BEGIN, END = "<!-- figures: begin, made by `make bench-fleet` -->\n", "<!-- figures: end -->\n"
# What decides the figures: hosts, exporter, rules and queries.
SOURCES = (
    "benchmarks/fleet_hosts.py",
    "slabmon/export/*.py",
    "dashboards/rules/slabmon.yml",
    "dashboards/fleet.json",
)
SECONDS_OF_DAY, DAYS = 86_400, 15


def load() -> dict[str, Any]:
    """Return the raw results."""
    document: dict[str, Any] = json.loads(RESULTS.read_text())
    return document


def sources_digest() -> str:
    """Return the SHA-256 digest of the names and contents of SOURCES."""
    content = hashlib.sha256()
    for path in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        content.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return content.hexdigest()


def figures(found: Mapping[str, Any]) -> str:
    """Return the text between the marks."""
    return "\n".join([*_measured(found), *_sizes(found), *_panels(found)])


def _measured(found: Mapping[str, Any]) -> Iterator[str]:
    load, block = found["ingestion"], found["block"]
    recorded = load["recorded_series"]
    yield ""
    yield (
        f"Measured with Prometheus {found['prometheus']} on a virtual machine with {found['cpus']} "
        f"CPUs (load before: {found['load_average'][0]:g}), for {load['seconds']} s: "
        f"{found['hosts']} synthetic hosts, served by one process from two scrapes each of the "
        "exporter, extended linearly, and the rules of dashboards/rules."
    )
    yield ""
    rules = ", ".join(f"{group['group']} {group['evaluation_ms']:.0f}" for group in load["rules"])
    yield from table(
        ("", ""),
        [
            (
                "series of a scrape, mean of the hosts",
                f"{load['samples_per_scrape_round'] / found['hosts']:,.0f}",
            ),
            ("series in memory, recorded ones included", f"{load['series']:,}"),
            (
                "recorded series: of hosts; of their modules and drivers; of kernel releases",
                "; ".join(f"{count:,}" for count in recorded.values()),
            ),
            (
                f"samples per second, scraped every {found['interval_seconds']} s",
                f"{load['samples_per_second']:,}",
            ),
            ("failed scrapes", load["failed_scrapes"]),
            ("CPU of scrapes and rules, in percent of one", f"{load['cpu_percent_of_one']:.0f}"),
            (
                "part of the time with work in which other processes had the CPU",
                f"{load['waited_for_cpu_percent']:.0f} %",
            ),
            ("rounds of rules skipped because of that", load["missed_rule_rounds"]),
            (
                "resident memory: highest; after the queries below",
                f"{load['resident_peak_mib']:,} MiB; {found['resident_with_queries_mib']:,} MiB",
            ),
            (
                "time of a scrape: median; 99 %",
                f"{load['scrape_ms_median']:g} ms; {load['scrape_ms_p99']:g} ms",
            ),
            ("evaluation of rules, in ms", rules),
            (
                f"bytes on disk per sample, of {block['samples']:,} (chunks of few samples: more "
                "than after hours)",
                f"{block['chunk_bytes_per_sample']:g}",
            ),
        ],
    )


def _sizes(found: Mapping[str, Any]) -> Iterator[str]:
    load, hosts, pace = found["ingestion"], found["hosts"], found["interval_seconds"]
    each = load["samples_per_scrape_round"] / hosts
    few = load["sent_on_series"] / hosts
    yield (
        f"Extrapolated in proportion; disk for {DAYS} days at the measured bytes per sample. "
        "*Everything* is all series of a host; *few* is what the fleet dashboard "
        "reads: recorded series, and some gauges of each host."
    )
    yield ""
    yield from table(
        (
            "hosts",
            "every",
            "series: everything",
            "samples/s",
            "memory",
            f"disk, {DAYS} days",
            "series: few",
        ),
        [
            _size(load, found["block"], count, every, each, few, pace)
            for count, every in ((10, 15), (1_000, 15), (1_000, 60), (100_000, 60))
        ],
    )


def _size(
    load: Mapping[str, Any],
    block: Mapping[str, Any],
    count: int,
    every: int,
    each: float,
    few: float,
    pace: int,
) -> tuple[str, ...]:
    series, samples = count * each, count * each / every
    memory = load["resident_peak_mib"] / load["series"] * series / 1024
    disk = samples * SECONDS_OF_DAY * DAYS * block["chunk_bytes_per_sample"] / (1 << 30)
    return (
        f"{count:,}",
        f"{every} s",
        f"{series:,.0f}",
        f"{samples:,.0f}",
        f"{memory:,.1f} GiB",
        f"{disk:,.0f} GiB",
        f"{count * few:,.0f}",
    )


def _panels(found: Mapping[str, Any]) -> Iterator[str]:
    window = found["range"]
    yield (
        f"Queries of the fleet dashboard over these {found['hosts']} hosts; graphs over "
        f"{window['seconds']} s, a point every {window['step']} s. Offsets of hours are "
        "shortened to minutes, because a run has no longer past."
    )
    yield ""
    yield from table(
        ("panel and query", "median, ms", "longest, ms", "series"),
        [
            (name, f"{one['median_ms']:g}", f"{one['max_ms']:g}", one["series"])
            for name, one in found["panels"].items()
        ],
    )


def page(text: str, found: Mapping[str, Any]) -> str:
    """Return the page with the figures of these results."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + figures(found) + END + after


if __name__ == "__main__":
    sys.stdout.write(page(PAGE.read_text(), load()))
