# SPDX-License-Identifier: Apache-2.0
"""PromQL over slabmon's metrics: names, units and words come from the metric catalogue, so that a
dashboard cannot ask for what is not exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slabmon.export.metrics import CATALOGUE, DAEMON, VERDICTS, Metric

_ALL: tuple[Metric[Any], ...] = (*DAEMON, *CATALOGUE, *VERDICTS)
METRICS = {metric.exposed: metric for metric in _ALL}
# What dashboard-linter wants in each selector: the host is chosen once, for all panels.
CHOSEN = ('job=~"$job"', 'instance=~"$instance"')
PER_SECOND = {"": "cps", "bytes": "binBps", "seconds": "percentunit"}
UNITS = {"": "short", "bytes": "bytes", "seconds": "s"}


@dataclass(frozen=True)
class Query:
    """One query and how its series are called."""

    expr: str
    legend: str = ""


def metric(name: str) -> Metric[Any]:
    """The catalogue's entry; the name without `slabmon_`."""
    return METRICS[f"slabmon_{name}"]


def about(name: str, more: str = "") -> str:
    """The catalogue's help, and more."""
    return f"{metric(name).help} {more}".rstrip()


def gauge(name: str, *matchers: str) -> str:
    """Values as they are."""
    assert metric(name).kind == "gauge", f"{name} is a counter: rate() it"
    return select(f"slabmon_{name}", *matchers)


def rate(name: str, *matchers: str) -> str:
    """A counter's pace in units per second."""
    assert metric(name).kind == "counter", f"{name} is no counter"
    return f"rate({select(f'slabmon_{name}', *matchers)}[$__rate_interval])"


def select(series: str, *matchers: str) -> str:
    """A selector of the hosts chosen."""
    return f"{series}{{{', '.join((*CHOSEN, *matchers))}}}"


def of_releases(series: str, *matchers: str) -> str:
    """A selector of recorded series that are sums over all hosts of a kernel release."""
    return f"{series}{{{', '.join((CHOSEN[0], *matchers))}}}"


def top(expr: str, count: int = 10) -> str:
    """The largest."""
    return f"topk({count}, {expr})"


def unit_of(name: str) -> str:
    """Grafana's unit of the value, or of the pace of a counter."""
    found = metric(name)
    return (PER_SECOND if found.kind == "counter" else UNITS)[found.unit]
