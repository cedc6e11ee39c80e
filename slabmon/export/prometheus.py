# SPDX-License-Identifier: Apache-2.0
"""Snapshots as Prometheus metrics: families made of the catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family

from slabmon.export.metrics import CATALOGUE, DAEMON, VERDICTS, Daemon, Metric, Of
from slabmon.export.series import KINDS, MAX_SERIES, OTHER, Chosen, Row, Rows, allot
from slabmon.leaks.finding import Assessment
from slabmon.model import Snapshot

# Series of one row of a kind.
FAMILIES = Counter(metric.bound for metric in CATALOGUE if metric.bound)


def merge(rows: Iterable[Row]) -> Rows:
    """Rows by label set, equal ones added up: one duplicate would fail a whole scrape."""
    merged: Rows = {}
    for labels, value in rows:
        merged[labels] = merged.get(labels, 0) + value
    return merged


class Families:
    """What an encoder of prometheus_client takes for a registry, once: each family is made when it
    is written, and gone after, as families are many times their text."""

    def __init__(self, families: Iterator[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Family]:
        return self._families


class Exporter:
    """Makes metric families of snapshots, at most so many series; remembers which label sets have
    series of their own."""

    def __init__(self, max_series: int = MAX_SERIES) -> None:
        self._max_series = max_series
        self._chosen = {kind: Chosen() for kind in KINDS}

    def families(
        self, snapshot: Snapshot | None, daemon: Daemon, assessment: Assessment | None = None
    ) -> Families:
        """Everything of the catalogue; without a snapshot only the daemon's own figures, without
        an assessment no verdicts."""
        if snapshot:
            scores = {kind: rule.scores(snapshot) for kind, rule in KINDS.items()}
            wanted = {kind: len(rows) for kind, rows in scores.items()}
            for kind, limit in allot(wanted, FAMILIES, self._max_series).items():
                self._chosen[kind].choose(scores[kind], limit)
        own = replace(
            daemon,
            folded={kind: chosen.folded for kind, chosen in self._chosen.items()},
            moved={kind: chosen.moves for kind, chosen in self._chosen.items()},
        )
        parts: list[tuple[Sequence[Metric[Any]], Any]] = [(DAEMON, own)]
        if snapshot:
            parts.append((CATALOGUE, snapshot))
        if assessment:
            parts.append((VERDICTS, assessment))
        return Families(self._family(metric, of) for metrics, of in parts for metric in metrics)

    def _family(self, metric: Metric[Of], source: Of) -> Family:
        counter = metric.kind == "counter"
        kind = CounterMetricFamily if counter else GaugeMetricFamily
        family = kind(
            metric.name,
            metric.help,
            labels=metric.labels,
            unit=metric.unit if metric.name.endswith(f"_{metric.unit}") else "",
        )
        merged = merge(metric.rows(source))
        if metric.bound:
            merged = self._chosen[metric.bound].fold(metric.name, merged, counter)
            if not metric.additive:
                merged.pop((OTHER,) * len(metric.labels), None)
        for labels, value in merged.items():
            family.add_metric(labels, value)
        return family
