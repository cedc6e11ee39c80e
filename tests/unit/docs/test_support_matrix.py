# SPDX-License-Identifier: Apache-2.0
"""docs/support-matrix.md is what the recorded guest runs say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slabmon.state.fingerprint import sources_digest
from tests.support.paths import ROOT
from tests.support.results import StaleResultsWarning, warn_of_other_sources
from tests.vm.config import all_locked
from tests.vm.machine import GuestResult
from tests.vm.matrix import CHECK, HARDWARE, PROVES, STORM, render, sources
from tests.vm.results import load, of_run

GUEST = ROOT / "tests" / "vm" / "guest"
DOCUMENT = ROOT / "docs" / "support-matrix.md"


def test_the_document_is_generated_from_the_results() -> None:
    """`make docs` after `python -m tests.vm --record`."""
    assert DOCUMENT.read_text() == render(load())


def test_results_are_of_the_locked_kernels() -> None:
    locked = all_locked()
    assert [r["kernel"] for r in load() if r["release"] != locked[r["kernel"]].release] == []


@pytest.mark.parametrize("kernel", load(), ids=lambda kernel: kernel["kernel"])
def test_results_are_of_these_sources(kernel: dict[str, Any]) -> None:
    name = f"tests/vm/results/{kernel['kernel']}.json"
    warn_of_other_sources(name, sources(kernel), "make matrix")


def test_results_of_other_sources_are_warned_of() -> None:
    with pytest.warns(StaleResultsWarning, match=r"6\.1\.json: .* 0{12}, not these; run `make x`"):
        warn_of_other_sources("6.1.json", [sources_digest(), "0" * 64], "make x")
    with pytest.raises(AssertionError):
        warn_of_other_sources("6.1.json", [""], "make x")


@pytest.mark.parametrize("test", [*(test for _, test in PROVES), CHECK, STORM, HARDWARE])
def test_each_row_is_of_a_test(test: str) -> None:
    """One that was renamed would silently empty its row."""
    file, _, function = test.partition("::")
    assert f"\ndef {function}(" in (GUEST / f"{file}.py").read_text()


def test_a_run_is_read_by_test_function(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(
        """<testsuites><testsuite>
        <testcase classname="tests.vm.guest.test_hardware" name="test_unbind[ahci]"><properties>
          <property name="resources" value="13"/></properties></testcase>
        <testcase classname="tests.vm.guest.test_hardware" name="test_unbind[gpio]">
          <skipped message="no gpio here"/></testcase>
        <testcase classname="tests.vm.guest.test_hardware" name="test_unbind[nvme]">
          <error message="lost"/></testcase>
        </testsuite></testsuites>"""
    )
    found = of_run(GuestResult("6.1", "6.1.0-56", 1, "", "", "", tmp_path, 1.0))
    assert found == {
        "kernel": "6.1",
        "release": "6.1.0-56",
        "tests": {
            "test_hardware::test_unbind": {
                "sources": sources_digest(),
                "passed": 1,
                "failed": 1,
                "skipped": 1,
                "reasons": ["no gpio here"],
                "measured": {"ahci": {"resources": 13}},
            }
        },
    }


def test_failures_stand_out() -> None:
    entry = {"sources": "0" * 64, "passed": 3, "failed": 1, "skipped": 0, "reasons": []}
    result = {"kernel": "6.1", "release": "6.1.0", "tests": {PROVES[0][1]: entry}}
    assert f"| {PROVES[0][0]} | **1 failed** |" in render([result])
