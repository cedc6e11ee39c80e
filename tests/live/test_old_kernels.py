# SPDX-License-Identifier: Apache-2.0
"""The programs for old kernels, tested without one: what they may not contain, and that the
verifier of this kernel accepts them."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from slabmon.kernel.loading.loader import Compiler
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.probe.facts import probe
from slabmon.kernel.settings import Settings
from tests.support.hosts import facts
from tests.support.hot_path import MODES, compiled

pytestmark = [pytest.mark.live, pytest.mark.beside]

ATOMIC = {0xC3, 0xDB}  # BPF_STX of 4 and of 8 bytes in mode BPF_ATOMIC; BPF_XADD before 5.12
ADD = 0


@pytest.mark.parametrize("mode", MODES)
def test_before_5_12_atomic_operations_only_add(mode: str) -> None:
    """LLVM makes others of what looks like an addition: of one whose result is used, or of 0."""
    settings: Settings = MODES[mode]
    plan = make_plan(facts("5.10"), settings)
    module = compiled(plan)
    found = set()
    for name in {*plan.attach.values(), *plan.run}:
        code = module.dump_func(name.encode())
        for position in range(0, len(code), 8):
            if code[position] in ATOMIC:
                (operation,) = struct.unpack_from("<i", code, position + 4)
                found.add((name, operation))
    assert found
    assert {name for name, operation in found if operation != ADD} == set()


@pytest.mark.parametrize("pages", [False, True])
def test_programs_with_a_lane_per_nesting_level_are_loaded(pages: bool) -> None:
    """As before 6.1. They look their lanes up, by constants that the loader turns into maps."""
    plan = make_plan(replace(probe(), recursion_guard=False), Settings(pages=pages))
    assert plan.defines["NR_NESTING"] > 1
    with Compiler() as compiler:
        compiler.start(plan)
        with compiler.finish() as programs:
            assert {*plan.attach.values(), *plan.run} <= programs.programs.keys()
