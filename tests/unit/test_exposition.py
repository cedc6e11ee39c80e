"""What scrapers get: both formats as prometheus_client reads and writes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import exposition as theirs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics import exposition as their_openmetrics

from slabmon.export.exposition import OPENMETRICS, TEXT, Exposition, Family, preferred

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
SERIES = st.dictionaries(st.tuples(NAMES, NAMES), st.integers(0, 999_999) | st.floats(0, 1e5))
FAMILIES = st.lists(st.builds(
    lambda number, kind, text, series: Family(f"f{number}_bytes", kind, text, ("z", "a"), series,
                                              "bytes"),
    st.integers(0, 3), st.sampled_from(["counter", "gauge"]), NAMES, SERIES,
), max_size=3)  # fmt: skip


class Registry:
    """Families as prometheus_client knows them."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> list[Any]:
        found = []
        for family in self._families:
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            made = kind(family.name, family.help, labels=family.labels, unit=family.unit)
            for labels, value in family.series.items():
                made.add_metric(labels, value)
            found.append(made)
        return found


@given(FAMILIES)
def test_both_formats_are_written_as_prometheus_client_does(families: list[Family]) -> None:
    writer, registry = Exposition(), Registry(families)
    for _ in range(2):  # the second time label sets are remembered
        assert writer.text(families) == theirs.generate_latest(registry)
        wanted = their_openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        assert writer.openmetrics(families) == wanted


def test_large_values_are_exact() -> None:
    family = Family("f", "gauge", "", (), {(): 2**53 - 1})
    assert Exposition().text([family]).endswith(b"\nf 9007199254740991.0\n")


def test_only_label_sets_of_the_last_time_are_remembered() -> None:
    writer = Exposition()
    for number in range(3):
        writer.text([Family("f", "gauge", "", ("a",), {(str(number),): 1})])
    assert list(writer._written) == [(("a",), ("2",))]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("application/json", TEXT),
        ("nonsense;;;q=x", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0", OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0", TEXT),
        ("application/openmetrics-text;q=0.5,text/plain", TEXT),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.6", OPENMETRICS),
        ("text/plain;q=nan, application/openmetrics-text;q=0.1", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/"
         "openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,*/*;q=0.2",
         OPENMETRICS),
    ],
)  # fmt: skip
def test_the_format_is_what_the_client_prefers(accept: str, kind: str) -> None:
    assert preferred(accept) == kind
