# SPDX-License-Identifier: Apache-2.0
"""The context of an allocation from the preemption count, run in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slabmon.kernel.planning.plan import make_plan
from slabmon.model import CONTEXTS
from tests.support.hosts import facts, inline_lookup
from tests.support.kallsyms import CORE
from tests.support.native import EACH_OBJECT, OBJECTS, Native

HOSTS = {"6.18": facts("6.18"), "inline": inline_lookup(), "7.3": facts("7.3")}
PLAIN = (
    (0, "task"),
    (0x80000000, "task"),
    (0x00000002, "task"),
    (0x00000200, "task"),  # softirqs disabled
    (0x00000100, "softirq"),
    (0x00000300, "softirq"),
)
OLD = (
    (0x00010000, "irq"),
    (0x00010100, "irq"),
    (0x00110000, "nmi"),
    (0x00110100, "nmi"),
)
DISABLED = (
    (0x00010000, "task"),  # interrupts disabled
    (0x00010100, "softirq"),
    (0x01000000, "irq"),
    (0x01010100, "irq"),
    (0x11000000, "nmi"),
    (0xF1000100, "nmi"),
)


def context(native: Native, count: int, softirqs: int | None = None) -> str:
    """Allocate with this preemption count; return the context of the object."""
    at = native.plan.defines
    area = bytearray(8192)
    place = at["OFF_PER_CPU_PREEMPT_COUNT"]
    area[place : place + 4] = count.to_bytes(4, "little")
    runqueue = native.memory(bytes(area)) + at["OFF_PER_CPU_RUNQUEUE"]
    queue, task = bytearray(1024), bytearray(1024)
    queue[at["OFF_CFS_RQ_RQ"] : at["OFF_CFS_RQ_RQ"] + 8] = runqueue.to_bytes(8, "little")
    task[at["OFF_TASK_CFS_RQ"] : at["OFF_TASK_CFS_RQ"] + 8] = native.memory(bytes(queue)).to_bytes(
        8, "little"
    )
    thread = at["OFF_TASK_PREEMPT_COUNT"]
    if thread:
        task[thread : thread + 4] = count.to_bytes(4, "little")
    if softirqs is not None:
        place = at["OFF_TASK_SOFTIRQ_COUNT"]
        task[place : place + 4] = softirqs.to_bytes(4, "little")
    native.set("task", native.memory(bytes(task)))
    native.kmalloc(CORE + 0x144, OBJECTS, 70, 96)
    [sample] = native.reader.samples()
    return str(CONTEXTS[sample["context"]])


def started(host: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Native:
    native = Native(make_plan(host, EACH_OBJECT), folder, monkeypatch)
    native.start()
    native.set("time", 1000)
    native.slab(OBJECTS, 1 << 20, native.cache(b"kmalloc-96", 96))
    return native


@pytest.mark.parametrize(
    ("kernel", "count", "expected"),
    [
        *(("6.18", *case) for case in PLAIN + OLD),
        *(("inline", *case) for case in PLAIN + OLD),
        *(("7.3", *case) for case in PLAIN + DISABLED),
    ],
)
def test_the_bits_of_the_count_tell_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str, count: int, expected: str
) -> None:
    assert context(started(HOSTS[kernel], tmp_path, monkeypatch), count) == expected


def test_on_arm64_the_count_is_in_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native = started(facts("6.18", machine="aarch64"), tmp_path, monkeypatch)
    assert context(native, 0x100) == "softirq"


@pytest.mark.parametrize(("softirqs", "expected"), [(0x100, "softirq"), (0x200, "task")])
def test_with_preempt_rt_softirqs_are_counted_in_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, softirqs: int, expected: str
) -> None:
    offsets = {**facts("6.18").offsets, "OFF_TASK_SOFTIRQ_COUNT": 1000}
    native = started(facts("6.18", offsets=offsets), tmp_path, monkeypatch)
    assert context(native, 0x200, softirqs) == expected


def test_a_task_without_a_runqueue_has_no_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = started(facts("6.18"), tmp_path, monkeypatch)
    native.kmalloc(CORE + 0x144, OBJECTS, 70, 96)
    [sample] = native.reader.samples()
    assert CONTEXTS[sample["context"]] == "unknown"


def test_where_btf_has_no_place_for_it_no_context_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = started(facts("6.18", per_cpu={}), tmp_path, monkeypatch)
    native.kmalloc(CORE + 0x144, OBJECTS, 70, 96)
    [sample] = native.reader.samples()
    assert CONTEXTS[sample["context"]] == "unknown"
