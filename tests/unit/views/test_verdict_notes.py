# SPDX-License-Identifier: Apache-2.0
"""What the view of verdicts says above its rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slabmon.base.activity import Activity
from slabmon.leaks.finding import Assessment
from slabmon.leaks.observer import Observer
from slabmon.views.catalogue import VIEWS
from slabmon.views.table import Table
from slabmon.views.window import Instant, Window
from tests.support.builders import snapshot


def note(assessment: Assessment | None) -> str:
    return Table(VIEWS["verdicts"], Window(Instant(snapshot(), lambda: assessment))).note


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"observed": 60.0, "needed": 1260.0}, "leaks: too early: 1m00s of 21m00s"),
        ({"observed": 1300.0, "needed": 1260.0}, "leaks: none suspected in 21m40s"),
        ({"activity": Activity.ASLEEP}, "leaks: nothing grows: tracking is asleep"),
        ({"activity": Activity.OFF}, "leaks: not looked for: tracking is off"),
    ],
)
def test_an_empty_view_says_why(fields: dict[str, Any], text: str) -> None:
    assert note(replace(Observer().assess(), **fields)) == text


def test_nobody_may_have_looked() -> None:
    assert note(None) == "leaks: not assessed at this moment"
