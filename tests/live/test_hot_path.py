# SPDX-License-Identifier: Apache-2.0
"""A ratchet on the hot path: instructions, calls and cache lines of each event.

The compiled programs run step by step in this process; nothing is loaded. Only the creation of
bcc's maps needs root. After a change that is worth its cost:
python -m tests.support.hot_path > tests/support/hot_path.toml
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.support import hot_path
from tests.support.hot_path import measure

pytestmark = [pytest.mark.live, pytest.mark.beside]

KNOWN = tomllib.loads(Path(hot_path.__file__).with_suffix(".toml").read_text())
COMPILERS = 1.15  # instructions, between LLVM 14 and 19


@pytest.fixture(scope="module")
def now() -> dict[str, dict[str, dict[str, int]]]:
    return measure()


@pytest.mark.parametrize("name", KNOWN)
def test_no_event_costs_more_than_is_recorded(
    name: str, now: dict[str, dict[str, dict[str, int]]]
) -> None:
    for event, known in KNOWN[name].items():
        cost = now[name][event]
        assert cost["calls"] <= known["calls"], event
        assert cost["lines"] <= known["lines"], event
        assert cost["instructions"] <= known["instructions"] * COMPILERS, event


def test_everything_measured_is_recorded(now: dict[str, dict[str, dict[str, int]]]) -> None:
    assert now.keys() == KNOWN.keys()
    assert all(now[name].keys() == KNOWN[name].keys() for name in now)
