# SPDX-License-Identifier: Apache-2.0
"""prometheus_client's encoders and parsers, which are not typed throughout."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from prometheus_client import exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from slabmon.export.prometheus import Families


def text(families: Families) -> str:
    return exposition.generate_latest(families).decode()


def openmetrics(families: Families) -> str:
    encoded: bytes = openmetrics_exposition.generate_latest(families)  # type: ignore[no-untyped-call]
    return encoded.decode()


def parse_text(scraped: str) -> Iterable[Metric]:
    return text_string_to_metric_families(scraped)


def parse_openmetrics(scraped: str) -> Iterable[Metric]:
    families = openmetrics_parser.text_string_to_metric_families(scraped)  # type: ignore[no-untyped-call]
    return cast(Iterable[Metric], families)
