# SPDX-License-Identifier: Apache-2.0
"""docs/fleet.md is what its results and the exporter say."""

from __future__ import annotations

from benchmarks import fleet_figures
from slabmon.export.prometheus import FAMILIES
from slabmon.export.series import KINDS, MAX_SERIES, RESERVED
from tests.support.results import warn_of_other_sources


def test_results_are_of_these_sources() -> None:
    taken_of = fleet_figures.load()["sources"]
    now = fleet_figures.sources_digest()
    warn_of_other_sources("docs/fleet.json", [taken_of], "make bench-fleet", now)


def test_the_figures_are_those_of_the_results() -> None:
    text = fleet_figures.PAGE.read_text()
    assert text == fleet_figures.page(text, fleet_figures.load()), "run `make bench-fleet`"


def test_the_bound_is_described_as_it_is() -> None:
    text = " ".join(fleet_figures.PAGE.read_text().split())
    assert f"{MAX_SERIES:,} by default" in text
    assert f"{RESERVED} of them" in text
    for kind, rule in KINDS.items():
        assert f"{rule.share:.0%}".replace("%", " %") in text
        assert f"({FAMILIES[kind]} " in text
