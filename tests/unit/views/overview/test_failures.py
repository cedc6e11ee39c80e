# SPDX-License-Identifier: Apache-2.0
"""Failed allocations in the overview: those of the window, and whether they were expected."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slabmon.model import GfpClass, GfpModifier, Snapshot
from tests.support.conditions import healthy
from tests.unit.views.overview.test_rows import alone, named, watched

FIRST, LAST = 10.0, 180.0


def failing(seconds: float, failed: int, quiet: int, counted: bool = True) -> Snapshot:
    found = healthy(seconds)
    caches = [
        replace(each, failed=failed if each.name == "kmalloc-512" else 0) for each in found.caches
    ]
    quiet_row = GfpModifier("nowarn", quiet, 0, quiet)
    return replace(
        found,
        caches=tuple(caches),
        gfp=(GfpClass("kernel", 1000, 0, failed - 1), GfpClass("atomic", 1000, 0, 1)),
        modifiers=(quiet_row, GfpModifier("zero", 5, 0, 3)) if counted else (),
    )


def test_failures_that_the_kernel_warns_of_need_attention() -> None:
    window = watched(lambda seconds: failing(seconds, 7 + 13 * (seconds > 60), 5))
    row = named(window)["failed allocations"]
    assert row.state == "warn"
    assert row.finding == (
        "13 in 2m50s, 13 of them without __GFP_NOWARN; most since tracking began: kmalloc-512"
    )
    assert row.details == ("classes", "modifiers")
    assert named(window)["this host"].finding == "see failed allocations"


def test_failures_that_are_expected_do_not() -> None:
    window = watched(lambda seconds: failing(seconds, 7 + round(seconds), 2 + round(seconds)))
    row = named(window)["failed allocations"]
    assert row.state == "ok"
    assert row.finding.startswith("170 in 2m50s, 0 of them without __GFP_NOWARN")


@pytest.mark.parametrize("failed", [1, 17])
def test_failures_before_the_window_are_over(failed: int) -> None:
    assert "failed allocations" not in named(watched(lambda s: failing(s, failed, 0)))


def test_one_reading_tells_of_all_since_tracking_began() -> None:
    row = alone(failing(1.0, 17, 4))["failed allocations"]
    assert row.finding.startswith("17 since tracking began, 13 of them without __GFP_NOWARN")


def test_a_recording_without_modifiers_does_not_say_whether_they_were_expected() -> None:
    row = alone(failing(1.0, 17, 0, counted=False))["failed allocations"]
    assert row.state is None
    assert row.finding.startswith("17 since tracking began; most")
