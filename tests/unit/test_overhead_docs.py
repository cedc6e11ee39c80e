"""docs/overhead.md is what its results say."""

from __future__ import annotations

from tests import overhead


def test_the_page_is_that_of_the_results() -> None:
    assert overhead.PAGE.read_text() == overhead.page(), "run `make overhead-docs`"


def test_the_figure_is_that_of_the_results() -> None:
    assert overhead.FIGURE.read_text() == overhead.figure(overhead.load("bench"))
