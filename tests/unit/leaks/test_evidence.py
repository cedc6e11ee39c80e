# SPDX-License-Identifier: Apache-2.0
"""What exact tracking of a suspect has shown speaks for a leak, or against it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slabmon.leaks.evidence import examined
from slabmon.leaks.observer import Observer
from slabmon.model import Examination, SurvivingStack
from tests.support.builders import snapshot
from tests.unit.leaks.test_doubts import BARE

STACK = SurvivingStack(
    site="load_msg+0x41",
    frames=("__traceiter_kmalloc", "__kmalloc_noprof", "load_msg", "do_msgsnd"),
    process="python",
    cgroup="/jobs",
    objects=7,
    bytes=448,
)
EXAMINED = Examination(
    kind="cache",
    name="kmalloc-64",
    taken=1.0,
    seconds=60.0,
    allocs=211,
    age=15.0,
    survivors=7,
    survivor_bytes=448,
    verified=True,
    stacks=(STACK,),
)


@pytest.mark.parametrize("survivors", [0, 7])
def test_survivors_speak_for_a_leak_and_none_against_it(survivors: int) -> None:
    done = replace(EXAMINED, survivors=survivors, stacks=(STACK,) if survivors else ())
    now = replace(snapshot(), examinations=(done,))
    said = list(examined(now, BARE, survived=bool(survivors)))
    assert f"{survivors} objects" in said[0]
    assert not list(examined(now, BARE, survived=not survivors))


def test_a_stack_begins_with_the_function_that_asked() -> None:
    now = replace(snapshot(), examinations=(EXAMINED,))
    _, stack = examined(now, BARE, survived=True)
    assert stack.endswith("by python in /jobs: load_msg < do_msgsnd")


def test_oom_kills_from_before_a_cgroup_is_seen_are_no_news() -> None:
    observer, plain = Observer(), snapshot()
    levels = [
        dict(observer._exact(replace(plain, oom_kills=kills), first)).values()
        for kills, first in (({}, True), ({"/jobs": 7}, False), ({"/jobs": 9}, False))
    ]
    assert (7.0 in levels[1], 2.0 in levels[2]) == (False, True)
