"""The hot path does not grow unnoticed: instructions, calls and cache lines of each event.

What is compiled is run step by step in this process; nothing is loaded. Only making bcc's maps
needs root. After a change that is worth its cost: python -m tests.hot_path > tests/hot_path.toml
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from slabmon.kernel.plan import make_plan
from slabmon.kernel.settings import Filter
from tests import hot_path
from tests.hot_path import measure
from tests.unit.hosts import facts

pytestmark = pytest.mark.live

KNOWN = tomllib.loads(Path(hot_path.__file__).with_suffix(".toml").read_text())
COMPILERS = 1.15  # instructions, between LLVM 14 and 19


@pytest.fixture(scope="module")
def now() -> dict[str, dict[str, dict[str, int]]]:
    return measure()


@pytest.mark.parametrize("name", KNOWN)
def test_no_event_costs_more_than_is_written_down(
    name: str, now: dict[str, dict[str, dict[str, int]]]
) -> None:
    for event, known in KNOWN[name].items():
        found = now[name][event]
        assert found["calls"] <= known["calls"], event
        assert found["lines"] <= known["lines"], event
        assert found["instructions"] <= known["instructions"] * COMPILERS, event


def test_all_that_is_measured_is_written_down(now: dict[str, dict[str, dict[str, int]]]) -> None:
    assert now.keys() == KNOWN.keys()
    assert all(now[name].keys() == KNOWN[name].keys() for name in now)


@pytest.mark.parametrize("exact", [None, Filter(min_size=1)], ids=["sampled", "exact"])
def test_kernels_before_5_12_get_no_atomic_operation_but_addition(exact: Filter | None) -> None:
    """They refuse all others ("bpf: Add bitwise atomic instructions" came with 5.12)."""
    plan = make_plan(facts(recursion_guard=False), replace(hot_path.SMALL, exact=exact))
    programs = hot_path.Programs(plan)
    for program in plan.attach.values():
        code = programs.module.dump_func(program.encode())
        operations = {
            int.from_bytes(code[i + 4 : i + 8], "little")
            for i in range(0, len(code), 8) if code[i] in (0xDB, 0xC3)
        }  # fmt: skip
        assert operations <= {0}, program
