"""Snapshots as Prometheus metrics: families made of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family

from slabmon.analysis.verdicts.finding import Assessment
from slabmon.export.bounded import Rows, Table
from slabmon.export.bounds import RESERVED, divide
from slabmon.export.catalogue import CATALOGUE, DAEMON, VERDICTS, Daemon, Metric, Row
from slabmon.export.kinds import KINDS
from slabmon.model import Snapshot
from slabmon.web.settings import WebSettings

Merged = dict[tuple[str, ...], float]


def merge(rows: Iterable[Row]) -> Merged:
    """Rows by label set, equal ones added up: one duplicate would fail a whole scrape."""
    merged: Merged = {}
    for labels, value in rows:
        merged[labels] = merged.get(labels, 0) + value
    return merged


class Families:
    """What an encoder of prometheus_client takes for a registry."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


class Exporter:
    """Makes metric families of snapshots; remembers which rows have series of their own."""

    def __init__(self, max_series: int = WebSettings.max_series) -> None:
        self._max_series = max_series
        self._since = 0.0
        self._tables = _tables()

    def families(
        self, snapshot: Snapshot | None, daemon: Daemon, assessment: Assessment | None = None
    ) -> Families:
        """Everything of the catalogue; without a snapshot only the daemon's own figures, without
        an assessment no verdicts."""
        found = {metric.name: _family(metric, merge(metric.rows(snapshot)))
                 for metric in CATALOGUE} if snapshot else {}  # fmt: skip
        judged = [_family(metric, merge(metric.rows(assessment)))
                  for metric in VERDICTS] if assessment else []  # fmt: skip
        if snapshot:
            own = self._own(daemon)
            rest = sum(len(family.samples) for family in (*own, *found.values(), *judged))
            self._add_rows(found, snapshot, self._max_series - max(RESERVED, rest))
        return Families([*self._own(daemon), *found.values(), *judged])

    def _own(self, daemon: Daemon) -> list[Family]:
        folded = {kind: table.places.folded for kind, table in self._tables.items()}
        daemon = replace(daemon, folded=folded)
        return [_family(metric, merge(metric.rows(daemon))) for metric in DAEMON]

    def _add_rows(self, found: Mapping[str, Family], snapshot: Snapshot, series: int) -> None:
        if snapshot.tracking.since != self._since:  # all counters begin anew
            self._since, self._tables = snapshot.tracking.since, _tables()
        rows = {kind: Rows.of(table.kind, table.metrics, snapshot)
                for kind, table in self._tables.items()}  # fmt: skip
        most = {kind: max(len(rows[kind].keys), table.places.most)
                for kind, table in self._tables.items()}  # fmt: skip
        cost = {kind: len(table.metrics) for kind, table in self._tables.items()}
        room = divide(series, most, cost)
        for kind, table in self._tables.items():
            table.add(found, rows[kind], room[kind], snapshot.tracking.seconds)


def _tables() -> dict[str, Table]:
    return {name: Table(kind, tuple(metric for metric in CATALOGUE if metric.bound == name))
            for name, kind in KINDS.items()}  # fmt: skip


def _family(metric: Metric[Any], merged: Merged) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels, unit=metric.unit
                  if metric.name.endswith(f"_{metric.unit}") else "")  # fmt: skip
    for labels, value in merged.items():
        family.add_metric(labels, value)
    return family
