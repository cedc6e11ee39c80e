# SPDX-License-Identifier: Apache-2.0
"""Clocks over suspension."""

from __future__ import annotations

import time

import pytest

from slabmon.base.clock import boottime, suspended


def test_suspension_is_the_difference_of_the_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {time.CLOCK_BOOTTIME: 3700.5, time.CLOCK_MONOTONIC: 100.25}
    monkeypatch.setattr("slabmon.base.clock.time.clock_gettime", clocks.__getitem__)
    monkeypatch.setattr("slabmon.base.clock.time.monotonic", lambda: clocks[time.CLOCK_MONOTONIC])
    assert boottime() == 3700.5
    assert suspended() == 3600.25
