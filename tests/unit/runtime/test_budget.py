# SPDX-License-Identifier: Apache-2.0
"""What is given up when slabmon costs too much, and when it comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.errors import UsageError
from slabmon.runtime.budget import (
    COMFORT,
    PATIENCE_DOWN,
    PATIENCE_UP,
    STEPS,
    BudgetSettings,
    Cost,
    Level,
)

LIMIT = 0.02


def run(level: Level, cost: float, periods: int, limit: float = LIMIT) -> Level:
    for _ in range(periods):
        level = level.after(cost, limit)
    return level


def test_one_expensive_period_is_forgiven() -> None:
    assert run(Level(), 2 * LIMIT, PATIENCE_UP - 1).steps == 0
    assert run(run(Level(), 2 * LIMIT, 1), LIMIT, 1) == Level()
    assert run(Level(), 2 * LIMIT, PATIENCE_UP) == Level(1)


def test_steps_are_taken_one_by_one_to_the_last() -> None:
    assert run(Level(), 2 * LIMIT, 3 * PATIENCE_UP).steps == 3
    assert run(Level(), 2 * LIMIT, 100).steps == len(STEPS)


def test_sampling_widens_before_anything_is_shed() -> None:
    levels = [Level(steps) for steps in range(len(STEPS) + 1)]
    assert [level.widen for level in levels] == [1, 4, 16, 64, 64, 64, 64]
    assert [sorted(level.shed) for level in levels] == [
        [],
        [],
        [],
        [],
        ["pages"],
        ["pages", "slabinfo"],
        ["pages", "slabinfo"],
    ]
    assert [level.spacing for level in levels] == [0, 0, 0, 0, 0, 0, 15]


def test_steps_that_make_no_sense_are_not_taken() -> None:
    level = Level(available=STEPS[4:])
    assert run(level, 2 * LIMIT, 100).steps == 2
    assert run(level, 2 * LIMIT, 100).shed == {"slabinfo"}
    assert run(level, 2 * LIMIT, 100).widen == 1


def test_a_step_is_undone_only_after_some_time_well_below() -> None:
    level = Level(2)
    assert run(level, COMFORT * LIMIT, PATIENCE_DOWN - 1).steps == 2
    assert run(level, COMFORT * LIMIT, PATIENCE_DOWN) == Level(1)
    assert run(level, LIMIT * (COMFORT + 0.01), 100) == Level(2), "no flapping in between"


def test_without_a_limit_everything_comes_back_at_once() -> None:
    assert run(Level(3), 5.0, 3, limit=0).steps == 0


@given(st.lists(st.floats(0, 1), max_size=60))
def test_any_cost_moves_one_step_at_a_time_within_bounds(costs: list[float]) -> None:
    level = Level()
    for cost in costs:
        after = level.after(cost, LIMIT)
        assert abs(after.steps - level.steps) <= 1
        assert 0 <= after.steps <= len(STEPS)
        assert not (after.over and after.under)
        if after.steps > level.steps:
            assert cost > LIMIT
        level = after


def test_the_budget_grows_with_the_host() -> None:
    assert BudgetSettings().limit(1) == pytest.approx(0.01)
    assert BudgetSettings(2.5).limit(8) == pytest.approx(0.2)
    assert Cost(0.25, 0.5, 1.0).total == 1.75
    with pytest.raises(UsageError, match="cpu_percent is 101"):
        BudgetSettings(101)
