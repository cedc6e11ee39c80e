"""What slabmon exports, as written and as prometheus_client reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from slabmon.export.exposition import Exposition, Family


def text(families: Iterable[Family]) -> str:
    return Exposition().text(families).decode()


def openmetrics(families: Iterable[Family]) -> str:
    return Exposition().openmetrics(families).decode()


def parse_text(scraped: str) -> Iterable[Metric]:
    return text_string_to_metric_families(scraped)


def parse_openmetrics(scraped: str) -> Iterable[Metric]:
    families = openmetrics_parser.text_string_to_metric_families(scraped)  # type: ignore[no-untyped-call]
    return cast(Iterable[Metric], families)
