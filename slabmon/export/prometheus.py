"""Snapshots as Prometheus metrics: families made of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family

from slabmon.analysis.verdicts.finding import Assessment
from slabmon.export.catalogue import (
    CATALOGUE,
    DAEMON,
    MAX_SERIES,
    OTHER,
    VERDICTS,
    Daemon,
    Metric,
    Of,
    Row,
)
from slabmon.model import Snapshot

Rows = dict[tuple[str, ...], float]


def merge(rows: Iterable[Row]) -> Rows:
    """Rows by label set, equal ones added up: one duplicate would fail a whole scrape."""
    merged: Rows = {}
    for labels, value in rows:
        merged[labels] = merged.get(labels, 0) + value
    return merged


class Bound:
    """Keeps the families of one kind (caches, sites, devices) at a fixed number of label sets.

    Membership is first come, largest first, and lasts: a label set that moved between its own
    series and `other` would make counters fall.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._members: set[tuple[str, ...]] = set()
        self.folded = 0

    def fold(self, merged: Rows, width: int) -> Rows:
        """Adds label sets beyond the limit up under OTHER."""
        waiting = sorted((v, k) for k, v in merged.items() if k not in self._members)
        while waiting and len(self._members) < self._limit:
            self._members.add(waiting.pop()[1])
        self.folded = max(self.folded, len(waiting))
        if waiting:
            rest = (OTHER,) * width
            folded = sum(merged.pop(labels) for _, labels in waiting)
            merged[rest] = merged.get(rest, 0) + folded
        return merged


class Families:
    """What an encoder of prometheus_client takes for a registry."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


class Exporter:
    """Makes metric families of snapshots; remembers which label sets have their own series."""

    def __init__(self) -> None:
        self._bounds = {kind: Bound(limit) for kind, limit in MAX_SERIES.items()}

    def families(
        self, snapshot: Snapshot | None, daemon: Daemon, assessment: Assessment | None = None
    ) -> Families:
        """Everything of the catalogue; without a snapshot only the daemon's own figures, without
        an assessment no verdicts."""
        found = [self._family(metric, snapshot) for metric in CATALOGUE] if snapshot else []
        folded = {kind: bound.folded for kind, bound in self._bounds.items()}
        own = replace(daemon, folded=folded)
        judged = [self._family(metric, assessment) for metric in VERDICTS] if assessment else []
        return Families([*(self._family(metric, own) for metric in DAEMON), *found, *judged])

    def _family(self, metric: Metric[Of], source: Of) -> Family:
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = kind(metric.name, metric.help, labels=metric.labels, unit=metric.unit
                      if metric.name.endswith(f"_{metric.unit}") else "")  # fmt: skip
        merged = merge(metric.rows(source))
        if metric.bound:
            merged = self._bounds[metric.bound].fold(merged, len(metric.labels))
            if not metric.additive:
                merged.pop((OTHER,) * len(metric.labels), None)
        for labels, value in merged.items():
            family.add_metric(labels, value)
        return family
