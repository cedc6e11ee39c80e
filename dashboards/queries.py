# SPDX-License-Identifier: Apache-2.0
"""PromQL over slabmon's metrics: names, units and descriptions come from the metric catalogue, so
that a dashboard cannot query a metric that is not exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slabmon.export.metrics import CATALOGUE, CENSUS, DAEMON, MEMORY, VERDICTS, Metric

_ALL: tuple[Metric[Any], ...] = (*DAEMON, *CATALOGUE, *MEMORY, *CENSUS, *VERDICTS)
METRICS = {metric.exposed: metric for metric in _ALL}
# dashboard-linter requires these in each selector: hosts are selected once, for all panels.
CHOSEN = ('job=~"$job"', 'instance=~"$instance"')
PER_SECOND = {"": "cps", "bytes": "binBps", "seconds": "percentunit"}
UNITS = {"": "short", "bytes": "bytes", "seconds": "s"}


@dataclass(frozen=True)
class Query:
    """One query and the legend of its series."""

    expr: str
    legend: str = ""


def metric(name: str) -> Metric[Any]:
    """Return the catalogue's entry of a metric, given without `slabmon_`."""
    return METRICS[f"slabmon_{name}"]


def about(name: str, more: str = "") -> str:
    """Return the catalogue's help for a metric, followed by `more`."""
    return f"{metric(name).help} {more}".rstrip()


def gauge(name: str, *matchers: str) -> str:
    """Return a selector of a gauge."""
    assert metric(name).kind == "gauge", f"{name} is a counter: rate() it"
    return select(f"slabmon_{name}", *matchers)


def rate(name: str, *matchers: str) -> str:
    """Return the rate of a counter, in units per second."""
    assert metric(name).kind != "gauge", f"{name} is a gauge"
    return f"rate({select(f'slabmon_{name}', *matchers)}[$__rate_interval])"


def select(series: str, *matchers: str) -> str:
    """Return a selector for the selected hosts."""
    return f"{series}{{{', '.join((*CHOSEN, *matchers))}}}"


def of_releases(series: str, *matchers: str) -> str:
    """Return a selector of recorded series that are sums over all hosts of a kernel release."""
    return f"{series}{{{', '.join((CHOSEN[0], *matchers))}}}"


def top(expr: str, count: int = 10) -> str:
    """Return a query for the `count` largest series."""
    return f"topk({count}, {expr})"


def unit_of(name: str) -> str:
    """Return Grafana's unit of a gauge's value or a counter's rate."""
    entry = metric(name)
    if name.endswith("_bytes_per_second"):
        return PER_SECOND["bytes"]
    return (PER_SECOND if entry.kind == "counter" else UNITS)[entry.unit]
