"""docs/support-matrix.md is what the recorded guest runs say."""

from __future__ import annotations

from pathlib import Path

from tests.vm.config import all_locked
from tests.vm.matrix import PROVES, render
from tests.vm.results import load

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "support-matrix.md"


def test_the_document_is_generated_from_the_results() -> None:
    """`make docs` after `python -m tests.vm --record`."""
    assert DOCUMENT.read_text() == render(load())


def test_results_are_of_the_locked_kernels() -> None:
    assert {r["kernel"]: r["release"] for r in load()} == {
        name: locked.release for name, locked in all_locked().items()
    }


def test_each_row_has_a_result() -> None:
    """A test that was renamed would silently empty its row."""
    known = {test for result in load() for test in result["tests"]}
    assert [test for _, test in PROVES if test not in known] == []


def test_failures_stand_out() -> None:
    entry = {"passed": 3, "failed": 1, "skipped": 0, "reasons": []}
    result = {"kernel": "6.1", "release": "6.1.0", "tests": {PROVES[0][1]: entry}}
    assert f"| {PROVES[0][0]} | **1 failed** |" in render([result])
