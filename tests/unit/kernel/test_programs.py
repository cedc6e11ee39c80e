# SPDX-License-Identifier: Apache-2.0
"""The table of programs and bpf/slabmon.bpf.c say the same, and the plan follows the table."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from slabmon.kernel import programs as table
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.loading.loader import map_names
from slabmon.kernel.planning import plan as planning
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.programs import PROGRAMS, Direction, ProgramSpec
from slabmon.kernel.settings import Settings
from slabmon.model import State
from tests.support.hosts import KERNELS, facts, inline_lookup
from tests.support.preprocessor import preprocessed

# Together they have every program.
PLANS = [make_plan(facts(kernel, nodes=2), Settings(pages=True)) for kernel in KERNELS]
PLANS.append(make_plan(inline_lookup(), Settings(pages=True)))
PLANS.append(make_plan(facts(), Settings(pages=True, exact=Filter(process_tree=77))))
SOURCES = [preprocessed(plan) for plan in PLANS]
FUNCTION = re.compile(
    r"^int (\w+)\(struct bpf_raw_tracepoint_args \*\w+\)\n\{(.*?)^\}", re.M | re.S
)
LANES = re.compile(r'BPF_F_TABLE\("array", u32, struct (alloc|free)_lane_bytes, (\w+)_lanes,')
FUNCTIONS = {name: body for text in SOURCES for name, body in FUNCTION.findall(text)}
LANE_KINDS = {lanes: kind for text in SOURCES for kind, lanes in LANES.findall(text)}
COUNTING = [spec for spec in PROGRAMS if spec.lanes]


def test_each_program_of_the_sources_is_in_the_table_and_each_of_the_table_in_the_sources() -> None:
    assert set(FUNCTIONS) == {spec.name for spec in PROGRAMS}
    assert len({spec.name for spec in PROGRAMS}) == len(PROGRAMS)


def test_lanes_are_those_of_the_sources_and_of_the_same_direction() -> None:
    assert {spec.lanes: spec.direction.value for spec in COUNTING} == LANE_KINDS


@pytest.mark.parametrize("spec", COUNTING, ids=lambda spec: spec.name)
def test_a_program_counts_in_the_lanes_of_the_table(spec: ProgramSpec) -> None:
    used = {
        lanes
        for lanes in LANE_KINDS
        if re.search(rf"\b(enter_)?{lanes}(_lane)?\(", FUNCTIONS[spec.name])
    }
    assert used == {spec.lanes}


@pytest.mark.parametrize("spec", PROGRAMS, ids=lambda spec: spec.name)
def test_a_program_is_attached_in_one_way(spec: ProgramSpec) -> None:
    assert spec.on_demand + bool(spec.functions) + bool(spec.event and not spec.on_demand) == 1
    assert bool(spec.functions) == (spec.kind in ("fentry", "fexit"))
    assert bool(spec.lanes) == (spec.direction != Direction.NEITHER)
    assert not spec.required or spec.event


@pytest.mark.parametrize("plan", PLANS, ids=[*KERNELS, "struct pages", "process tree"])
def test_a_plan_has_the_maps_of_its_programs_and_no_others(plan: planning.Plan) -> None:
    declared = set(LANES.findall(preprocessed(plan)))
    planned = {(spec.direction.value, spec.lanes) for spec in plan.attached if spec.lanes}
    assert planned == declared
    assert {f"{lanes}_lanes" for _, lanes in planned} <= set(map_names(plan))


def test_a_new_tracepoint_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ProgramSpec(name="on_kfree_skb", feature="kfree_skb", event="kfree_skb")
    monkeypatch.setattr(planning, "PROGRAMS", (*PROGRAMS, entry))
    host = facts()
    assert make_plan(host, Settings()).features["kfree_skb"].state == State.OFF
    known = replace(host, prototypes={**host.prototypes, "kfree_skb": ("struct sk_buff *",)})
    plan = make_plan(known, Settings())
    assert plan.features["kfree_skb"].state == State.ON
    assert plan.attach["kfree_skb"] == "on_kfree_skb"


def test_every_event_and_function_of_the_table_is_probed() -> None:
    assert set(table.EVENTS) >= {spec.event for spec in PROGRAMS if spec.event}
    assert set(table.FUNCTIONS) >= {name for spec in PROGRAMS for name in spec.functions}
