# SPDX-License-Identifier: Apache-2.0
"""docs/overhead.md is what its results say."""

from __future__ import annotations

import pytest

from benchmarks import overhead, overhead_figures
from tests.support.results import warn_of_other_sources


def test_the_page_is_that_of_the_results() -> None:
    assert overhead.PAGE.read_text() == overhead.page(), "run `make overhead-docs`"


def test_the_figures_are_those_of_the_results() -> None:
    bars, curves = (overhead.RESULTS / name for name in ("pairs.svg", "scale.svg"))
    assert bars.read_text() == overhead_figures.bars(overhead.load("bench"))
    assert curves.read_text() == overhead_figures.curves(overhead.load("scale"))


@pytest.mark.parametrize("name", ["bench", "daemon", "scale"])
def test_results_are_of_these_sources(name: str) -> None:
    document = overhead.load(name)
    sources = document["machine"]["sources"] if name == "bench" else document["sources"]
    warn_of_other_sources(f"docs/overhead/{name}.json", [sources], "make overhead")
