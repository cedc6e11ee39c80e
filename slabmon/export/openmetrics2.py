# SPDX-License-Identifier: Apache-2.0
"""OpenMetrics 2.0: start times and histograms are parts of a sample, not samples of their own.

prometheus_client (0.26) writes an earlier draft: deltas of native buckets, and a `_created` sample
that ingestors take for a series (https://prometheus.io/docs/specs/om/open_metrics_spec_2_0/,
2.0.0-rc0).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Protocol

from prometheus_client.core import Metric as Family
from prometheus_client.samples import NativeHistogram, Sample

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Registry(Protocol):
    """What an encoder writes."""

    def collect(self) -> Iterable[Family]:
        """Yield the families: counters, gauges and histograms."""
        ...


def generate_latest(registry: Registry) -> bytes:
    """Return the families as OpenMetrics 2.0."""
    lines = [line for family in registry.collect() for line in _lines(family)]
    return "\n".join([*lines, "# EOF", ""]).encode()


def _lines(family: Family) -> Iterator[str]:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    yield f"# TYPE {name} {family.type}"
    if family.unit:
        yield f"# UNIT {name} {family.unit}"
    yield f"# HELP {name} {family.documentation.translate(_ESCAPES)}"
    starts = {
        _labels(sample): f" st@{sample.value:.3f}"
        for sample in family.samples
        if sample.name == f"{family.name}_created"
    }
    if family.type == "histogram":
        yield f"{name} {_histogram(family)}{starts.get('', '')}"
        return
    for sample in family.samples:
        if sample.name == name:
            labels = _labels(sample)
            yield f"{name}{labels} {float(sample.value)!r}{starts.get(labels, '')}"


def _labels(sample: Sample) -> str:
    if not sample.labels:
        return ""
    pairs = (f'{name}="{value.translate(_ESCAPES)}"' for name, value in sample.labels.items())
    return "{" + ",".join(pairs) + "}"


def _histogram(family: Family) -> str:
    """Return the value of a family's only histogram, which has no labels."""
    fields = {}
    buckets = []
    for sample in family.samples:
        part = sample.name.removeprefix(family.name)
        if sample.native_histogram:
            fields["native"] = _native(sample.native_histogram)
        elif part == "_bucket":
            buckets.append(f"{sample.labels['le']}:{sample.value:.0f}")
        elif part == "_count":
            fields["count"] = f"count:{sample.value:.0f}"
        elif part == "_sum":
            fields["sum"] = f"sum:{float(sample.value)!r}"
    fields["bucket"] = f"bucket:[{','.join(buckets)}]"
    order = ("count", "sum", "native", "bucket")
    return "{" + ",".join(fields[name] for name in order if name in fields) + "}"


def _native(histogram: NativeHistogram) -> str:
    """Return the fields of native buckets; all are positive. Counts are absolute here."""
    fields = [
        f"schema:{histogram.schema}",
        f"zero_threshold:{histogram.zero_threshold:g}",
        f"zero_count:{histogram.zero_count:.0f}",
    ]
    if histogram.pos_spans:
        spans = ",".join(f"{span.offset}:{span.length}" for span in histogram.pos_spans)
        counts = ",".join(map(str, accumulate(histogram.pos_deltas or ())))
        fields += [f"positive_spans:[{spans}]", f"positive_buckets:[{counts}]"]
    return ",".join(fields)
