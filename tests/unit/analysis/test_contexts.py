# SPDX-License-Identifier: Apache-2.0
"""What allocated each object, and whose it is then."""

from __future__ import annotations

import numpy as np
import pytest

from slabmon.analysis.contexts import context_of, live_by_context, main_contexts, with_inferred
from slabmon.analysis.grouping import group_live, groups
from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.model import CONTEXTS, Context, Snapshot
from tests.support.builders import Object, snapshot, tracked

OWN = Object(tgid=7, comm=b"cat", cgroup=3)
ARRIVED = Object(tgid=7, comm=b"cat", cgroup=3, context=Context.SOFTIRQ)
TIMER = Object(tgid=7, comm=b"cat", cgroup=3, context=Context.IRQ, site=1)


def host(*objects: Object) -> Snapshot:
    return snapshot(tracked=tracked(objects))


def counted(found: Snapshot, *by: str) -> dict[tuple[str, ...], int]:
    return {group.labels: group.live.objects for group in group_live(found, by)}


def test_numbers_are_those_of_the_programs() -> None:
    for number, context in enumerate(CONTEXTS):
        assert CONSTANTS[f"CONTEXT_{context.upper()}"] == number


@pytest.mark.parametrize(
    ("frames", "context"),
    [
        ((), Context.UNKNOWN),
        (("kmalloc", "vfs_open", "do_syscall_64"), Context.TASK),
        (("kmalloc", "asm_exc_page_fault"), Context.TASK),
        (("kmalloc", "net_rx", "handle_softirqs", "asm_common_interrupt"), Context.SOFTIRQ),
        (("kmalloc", "net_rx [ice]", "do_softirq.part.0", "x64_sys_call"), Context.SOFTIRQ),
        (("kmalloc", "irq_thing", "asm_common_interrupt", "handle_softirqs"), Context.IRQ),
        (("kmalloc", "irq_thing", "sysvec_irq_work", "asm_sysvec_irq_work"), Context.IRQ),
        (("kmalloc", "gic_handle_irq", "el1h_64_irq"), Context.IRQ),
        (("kmalloc", "mce", "asm_exc_nmi", "handle_softirqs"), Context.NMI),
    ],
)
def test_the_innermost_entry_tells_the_context(frames: tuple[str, ...], context: Context) -> None:
    assert context_of(frames) == context


def test_stacks_tell_only_what_is_not_known() -> None:
    known = np.array([CONTEXTS.index(c) for c in ("task", "unknown", "unknown", "unknown")], "u1")
    stacks = np.array([1, 1, 2, -14], "i4")
    frames = {1: ("kmalloc", "handle_softirqs"), 2: ("kmalloc", "do_syscall_64")}
    found = with_inferred(known, stacks, frames)
    assert [CONTEXTS[number] for number in found] == ["task", "softirq", "task", "unknown"]


def test_what_interrupts_allocate_is_nobodys() -> None:
    found = host(OWN, OWN, ARRIVED, ARRIVED, ARRIVED, TIMER)
    assert counted(found, "process", "pid") == {
        ("cat", "7"): 2,
        ("[softirq]", "[softirq]"): 3,
        ("[irq]", "[irq]"): 1,
    }
    assert counted(found, "cgroup") == {("/3",): 2, ("[softirq]",): 3, ("[irq]",): 1}
    assert counted(found, "context") == {("task",): 2, ("softirq",): 3, ("irq",): 1}
    chosen = groups(found, ("context",), (("process", "cat"),)).rows
    assert [row.labels for row in chosen] == [("task",)]


def test_live_memory_by_context_adds_up() -> None:
    live = live_by_context(host(OWN, OWN, ARRIVED, TIMER))
    assert {context: row.objects for context, row in live.items()} == {
        Context.TASK: 2,
        Context.SOFTIRQ: 1,
        Context.IRQ: 1,
        Context.NMI: 0,
    }
    unknown = live_by_context(host(OWN, Object(context=Context.UNKNOWN)))
    assert unknown[Context.UNKNOWN].objects == 1


def test_a_site_has_the_context_of_most_of_its_memory() -> None:
    found = host(OWN, ARRIVED, ARRIVED, ARRIVED, TIMER)
    assert main_contexts(found, found.tracked.site, 3) == ["softirq 75%", "irq", None]
