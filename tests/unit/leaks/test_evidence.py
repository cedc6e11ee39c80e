# SPDX-License-Identifier: Apache-2.0
"""What exact tracking of a suspect has shown speaks for a leak, or against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slabmon.leaks import checkpoint
from slabmon.leaks.evidence import examined
from slabmon.leaks.evidence_levels import GAP
from slabmon.leaks.observer import Observer
from slabmon.leaks.series import SCALES
from slabmon.model import Examination, Process, Snapshot, SurvivingStack
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


def opened(descriptors: int | None, started_ns: int | None = 7) -> dict[str, Any]:
    process = Process(tgid=77, started_ns=started_ns, descriptors=descriptors)
    return {"processes": (process,)}


def killed(kills: int) -> dict[str, Any]:
    return {"oom_kills": {"/jobs": kills}}


def readings(*fields: dict[str, Any]) -> list[Snapshot]:
    plain, step = snapshot(), SCALES[0][0]
    return [
        replace(
            plain,
            tracking=replace(plain.tracking, seconds=plain.tracking.seconds + step * i),
            **{"processes": (), "oom_kills": {}, **each},
        )
        for i, each in enumerate(fields)
    ]


def levels(observer: Observer) -> list[float]:
    """The levels of the only series at all points."""
    assert len(observer._subjects.number) == 1
    return [float(point.unpacked()[0].sum()) for point in observer._scales[0].points]


@pytest.mark.parametrize(
    "lacking", [[{}], [{}] * GAP, [{"processes": None}], [opened(None)]], ids=repr
)
def test_descriptors_stay_as_they_were_over_a_gap(lacking: list[dict[str, Any]]) -> None:
    observer = Observer()
    for each in readings(opened(20), opened(50), *lacking, opened(51)):
        observer.add(each)
    assert levels(observer) == [0, 30, *[30] * len(lacking), 31]


def test_oom_kills_stay_as_they_were_over_a_gap() -> None:
    observer = Observer()
    for each in readings(killed(1), killed(4), {}, killed(4)):
        observer.add(each)
    assert levels(observer) == [0, 3, 3, 3]


def test_a_gap_in_which_another_process_goes_on_is_one_too() -> None:
    observer = Observer()
    first, second, gap, last = readings(opened(20), opened(50), {}, opened(51))
    observer.add(first)
    observer.add(second)
    other = Observer()
    checkpoint.restore(other, checkpoint.pack(observer))
    other.add(gap)
    other.add(last)
    assert levels(other) == [0, 30, 30, 31]


def test_what_is_missing_for_long_has_ended_and_begins_anew() -> None:
    observer = Observer()
    for each in readings(opened(20), opened(50), *[{}] * (GAP + 1), opened(50), opened(52)):
        observer.add(each)
    assert levels(observer) == [0, 30, *[30] * GAP, 0, 0, 2]


@pytest.mark.parametrize("now", [opened(None, None), opened(3, 8)], ids=["none", "another"])
def test_a_process_that_has_ended_ends_at_once(now: dict[str, Any]) -> None:
    observer = Observer()
    for each in readings(opened(20), opened(50), now):
        observer.add(each)
    assert levels(observer) == [0, 30, 0]
