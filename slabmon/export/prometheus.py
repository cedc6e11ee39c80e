"""Snapshots as Prometheus metrics: a custom collector over the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import psutil
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family

from slabmon.export.catalogue import CATALOGUE, MAX_SERIES, OTHER, Metric, Row
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


class SnapshotCollector:
    """prometheus_client collector; takes a snapshot per collect()."""

    def __init__(self, take: Callable[[], Snapshot], seconds: Callable[[], float]) -> None:
        self._take = take
        self._seconds = seconds
        self._bounds = {kind: Bound(limit) for kind, limit in MAX_SERIES.items()}
        self._process = psutil.Process()

    def describe(self) -> Iterable[Family]:
        """Nothing: registering must not read the kernel."""
        return ()

    def _family(self, metric: Metric, snapshot: Snapshot) -> Family:
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = kind(metric.name, metric.help, labels=metric.labels, unit=metric.unit
                      if metric.name.endswith(f"_{metric.unit}") else "")  # fmt: skip
        rows = metric.rows(snapshot)
        merged = merge(rows)
        if metric.bound:
            merged = self._bounds[metric.bound].fold(merged, len(metric.labels))
            if not metric.additive:
                merged.pop((OTHER,) * len(metric.labels), None)
        for labels, value in merged.items():
            family.add_metric(labels, value)
        return family

    def collect(self) -> Iterator[Family]:
        snapshot = self._take()
        for metric in CATALOGUE:
            yield self._family(metric, snapshot)
        folded = GaugeMetricFamily(
            "slabmon_folded_series", "Label sets added up under `other`.", labels=("family",)
        )
        for kind in MAX_SERIES:
            folded.add_metric((kind,), self._bounds[kind].folded)
        yield folded
        yield GaugeMetricFamily(
            "slabmon_snapshot_seconds", "Time the last reading of the kernel's tables took.",
            value=self._seconds(), unit="seconds",
        )  # fmt: skip
        with self._process.oneshot():
            times, memory = self._process.cpu_times(), self._process.memory_info()
        yield GaugeMetricFamily(
            "slabmon_process_resident_bytes", "Resident memory of the daemon.",
            value=memory.rss, unit="bytes",
        )  # fmt: skip
        yield CounterMetricFamily(
            "slabmon_process_cpu_seconds", "CPU time of the daemon.",
            value=times.user + times.system, unit="seconds",
        )  # fmt: skip


def registry(collector: SnapshotCollector) -> CollectorRegistry:
    """A registry of its own: nothing of the library's default metrics."""
    result = CollectorRegistry(auto_describe=False)
    result.register(collector)
    return result
