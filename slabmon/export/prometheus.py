# SPDX-License-Identifier: Apache-2.0
"""Snapshots as Prometheus metric families, made from the catalogue."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.samples import BucketSpan, NativeHistogram

from slabmon.census.model import Census
from slabmon.export.choice import EVERY_CACHE, CacheChoice
from slabmon.export.metrics import (
    CATALOGUE,
    CENSUS,
    DAEMON,
    MEMORY,
    VERDICTS,
    Daemon,
    Metric,
    SourceT,
    Type,
)
from slabmon.export.series import (
    KINDS,
    MAX_SERIES,
    OTHER,
    Folding,
    Labels,
    Row,
    SeriesValues,
    allot,
)
from slabmon.leaks.finding import Assessment
from slabmon.memory.ledger import account
from slabmon.model import Snapshot

# Number of series per row of each kind.
FAMILIES = Counter(metric.bound for metric in CATALOGUE if metric.bound)


@dataclass(frozen=True)
class Exposition:
    """Capabilities of the format of a scrape.

    `start_times`: counters may have a start time, as a sample that ingestors count as a series.
    `inline`: start times and native histograms are parts of a sample.
    """

    start_times: bool = False
    inline: bool = False

    @classmethod
    def of(cls, content_type: str) -> Exposition:
        """Return what a negotiated content type can express."""
        openmetrics = content_type.startswith("application/openmetrics-text")
        return cls(openmetrics, openmetrics and "version=2" in content_type)


def merge(rows: Iterable[Row]) -> SeriesValues:
    """Sum rows of equal labels, since a single duplicate would fail the whole scrape."""
    merged: SeriesValues = {}
    for labels, value in rows:
        merged[labels] = merged.get(labels, 0) + value
    return merged


def _no_start_time(_: Labels) -> None:
    return None


class Families:
    """A registry for an encoder of prometheus_client, usable once. Each family is made when it is
    written and released afterwards, since families are many times the size of their text."""

    def __init__(self, families: Iterator[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Family]:
        """Yield the families."""
        return self._families


class _LastValues:
    """The values of the families of one source, remembered until there is another. Computing them
    takes ten times as long as writing them, and each format of a scrape needs them."""

    def __init__(self) -> None:
        self._source: Callable[[], object] = lambda: None  # a weak reference
        self._values: dict[str, SeriesValues] = {}

    def begin(self, source: Snapshot | Census) -> bool:
        """Forget the values of any other source. Returns whether this one is new."""
        if self._source() is source:
            return False
        self._source, self._values = weakref.ref(source), {}
        return True

    def get(self, family: str, compute: Callable[[], SeriesValues]) -> SeriesValues:
        """Return the values of a family, computed if needed."""
        if family not in self._values:
            self._values[family] = compute()
        return self._values[family]


class Exporter:
    """Makes metric families from snapshots, with a bounded number of series, and remembers which
    label sets have series of their own."""

    def __init__(self, max_series: int = MAX_SERIES, choice: CacheChoice = EVERY_CACHE) -> None:
        self._max_series, self._choice = max_series, choice
        self._left_out = 0  # caches that the choice leaves to OTHER
        self._foldings = {kind: Folding() for kind in KINDS}
        self._last_snapshot, self._last_census = _LastValues(), _LastValues()

    def families(
        self,
        snapshot: Snapshot | None,
        daemon: Daemon,
        assessment: Assessment | None = None,
        exposition: Exposition = Exposition(),
        census: Census | None = None,
    ) -> Families:
        """Return all families of the catalogue: without a snapshot only the daemon's own, without
        an assessment none of verdicts, and without a census none of it."""
        if snapshot and self._last_snapshot.begin(snapshot):
            scores = {kind: rule.scores(snapshot) for kind, rule in KINDS.items()}
            chosen = self._choice.scores(snapshot.caches, scores["cache"])
            self._left_out = len(scores["cache"]) - len(chosen)
            scores["cache"] = chosen
            wanted = {kind: len(rows) for kind, rows in scores.items()}
            for kind, limit in allot(wanted, FAMILIES, self._max_series).items():
                self._foldings[kind].choose(scores[kind], limit, snapshot.taken)
        figures = replace(
            daemon,
            folded={
                kind: folding.folded + (self._left_out if kind == "cache" else 0)
                for kind, folding in self._foldings.items()
            },
            moved={kind: folding.moves for kind, folding in self._foldings.items()},
        )
        return Families(self._all(snapshot, figures, assessment, exposition, census))

    def _all(
        self,
        snapshot: Snapshot | None,
        daemon: Daemon,
        assessment: Assessment | None,
        exposition: Exposition,
        census: Census | None,
    ) -> Iterator[Family]:
        yield from (self._family(metric, daemon) for metric in DAEMON)
        if snapshot:
            for metric in CATALOGUE:
                if metric.kind == Type.HISTOGRAM:
                    yield _histogram(metric, snapshot, exposition)
                else:
                    start_of = self._start_times(metric, snapshot, exposition)
                    yield self._family(metric, snapshot, start_of, self._last_snapshot)
            if snapshot.memory is not None:
                ledger = account(snapshot.memory, census.memory if census else None)
                yield from (self._family(metric, ledger) for metric in MEMORY)
        if census:
            self._last_census.begin(census)
            for metric_of_census in CENSUS:
                yield self._family(metric_of_census, census, last=self._last_census)
        if assessment:
            yield from (self._family(metric, assessment) for metric in VERDICTS)

    def _values(self, metric: Metric[SourceT], source: SourceT) -> SeriesValues:
        """Return the values of a counter or gauge by labels."""
        values = merge(metric.rows(source))
        if metric.bound:
            counter = metric.kind == Type.COUNTER
            values = self._foldings[metric.bound].fold(metric.name, values, counter)
            if not metric.additive:
                values.pop((OTHER,) * len(metric.labels), None)
        return values

    def _start_times(
        self, metric: Metric[Snapshot], snapshot: Snapshot, exposition: Exposition
    ) -> Callable[[Labels], float | None]:
        """Return what gives the Unix time at which the counter with some labels was 0, None if the
        scrape is not to say so. Rows of a bounded kind, which start when they get a series of their
        own, have a start time only where it is no series."""
        since = snapshot.tracking.since
        if not metric.bound and exposition.start_times:
            return lambda _: since
        if metric.bound and exposition.inline:
            return partial(self._foldings[metric.bound].start, since=since)
        return _no_start_time

    def _family(
        self,
        metric: Metric[SourceT],
        source: SourceT,
        start_of: Callable[[Labels], float | None] = _no_start_time,
        last: _LastValues | None = None,
    ) -> Family:
        """Return a counter or gauge. `last` remembers the values of the source."""
        compute = partial(self._values, metric, source)
        values = last.get(metric.name, compute) if last else compute()
        unit = metric.unit if metric.name.endswith(f"_{metric.unit}") else ""
        if metric.kind == Type.COUNTER:
            counters = CounterMetricFamily(
                metric.name, metric.help, labels=metric.labels, unit=unit
            )
            for labels, value in values.items():
                counters.add_metric(labels, value, created=start_of(labels))
            return counters
        gauges = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels, unit=unit)
        for labels, value in values.items():
            gauges.add_metric(labels, value)
        return gauges


def _histogram(
    metric: Metric[Snapshot], snapshot: Snapshot, exposition: Exposition
) -> HistogramMetricFamily:
    """Return a histogram with a bucket per row; also as a native one where samples can be."""
    counts = dict(
        sorted((int(le), int(value)) for (le,), value in merge(metric.rows(snapshot)).items())
    )
    total = metric.total(snapshot)
    cumulated = list(accumulate(counts.values()))
    count = cumulated[-1] if cumulated else 0
    family = HistogramMetricFamily(metric.name, metric.help, unit=metric.unit)
    if exposition.inline:
        family.add_sample(metric.name, {}, count, native_histogram=_native(counts, total))
    buckets = [(f"{le:.1f}", float(n)) for le, n in zip(counts, cumulated, strict=True)]
    family.add_metric([], [*buckets, ("+Inf", float(count))], total)
    if exposition.start_times:
        family.add_sample(f"{metric.name}_created", {}, snapshot.tracking.since)
    return family


def _native(counts: Mapping[int, int], total: float) -> NativeHistogram:
    """Return the native histogram of counts by upper bounds that are powers of two.

    Schema 0 has a bucket per power of two, numbered by its exponent; a span is an offset from the
    last bucket and a length, and counts are differences from bucket to bucket
    (https://prometheus.io/docs/specs/native_histograms/).
    """
    numbers: Counter[int] = Counter()
    for le, count in counts.items():
        numbers[(le - 1).bit_length()] += count
    spans, deltas = [], []
    end = previous = 0
    for number, count in sorted(numbers.items()):
        spans.append(BucketSpan(number - end, 1))
        deltas.append(count - previous)
        end, previous = number + 1, count
    return NativeHistogram(
        count_value=sum(counts.values()),
        sum_value=total,
        schema=0,
        zero_threshold=0,
        zero_count=0,
        pos_spans=spans,
        pos_deltas=deltas,
    )
