# SPDX-License-Identifier: Apache-2.0
"""Growth of what no counter names, over the last hour."""

from __future__ import annotations

from slabmon.memory.growth import UncountedHistory
from slabmon.memory.ledger import Growth
from tests.support.memory import MIB, reading


def test_growth_is_since_the_oldest_value_of_the_hour() -> None:
    history = UncountedHistory()
    for minute in range(100):
        now = reading(60.0 * minute, MemFree=(1000 - minute) * MIB)
        history.add(now)
    assert history.growth(now) == Growth(bytes=60 * MIB, seconds=3600.0)


def test_there_is_none_within_a_minute() -> None:
    history = UncountedHistory()
    assert history.growth(reading(0.0)) is None
    history.add(reading(0.0))
    assert history.growth(reading(59.0)) is None
    assert history.growth(reading(60.0, MemFree=1001 * MIB)) == Growth(bytes=-MIB, seconds=60.0)


def test_a_clock_that_is_set_back_forgets_what_was_later() -> None:
    history = UncountedHistory()
    history.add(reading(5000.0))
    history.add(reading(100.0))
    assert history.growth(reading(160.0)) == Growth(bytes=0, seconds=60.0)
