# SPDX-License-Identifier: Apache-2.0
"""What slabmon says of itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from slabmon.daemon import self_metrics
from slabmon.runtime.figures import MemoryFigures, ProcessMemory


def test_memory_of_maps_is_what_the_kernel_charges(tmp_path: Path) -> None:
    (tmp_path / "3").write_text("pos:\t0\nmemlock:\t4096\n")
    (tmp_path / "4").write_text("pos:\t0\n")
    assert self_metrics.bpf_memory([3, 4, 5], tmp_path) == 4096


def test_a_process_that_is_gone_uses_nothing() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    assert self_metrics.cpu_seconds(pid) == 0
    assert self_metrics.process_memory(pid) == ProcessMemory()


def test_memory_is_measured_again_for_another_process_and_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured, now = [], 1000.0

    def process_memory(pid: int) -> ProcessMemory:
        measured.append(pid)
        return ProcessMemory(resident=pid, proportional=2 * pid)

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(self_metrics, "bpf_memory", lambda _: 7)
    monkeypatch.setattr(self_metrics, "process_memory", process_memory)
    sizes = self_metrics.MemorySizes()
    for _ in range(3):
        assert sizes.figures(collector=4, web=5, descriptors=[]) == MemoryFigures(
            collector=ProcessMemory(resident=4, proportional=8),
            web=ProcessMemory(resident=5, proportional=10),
            bpf_bytes=7,
        )
    assert measured == [4, 5]
    assert sizes.figures(collector=4, web=6, descriptors=[]).web.resident == 6
    now += self_metrics.MEMORY_SECONDS
    sizes.figures(collector=4, web=6, descriptors=[])
    assert measured == [4, 5, 4, 6, 4, 6]


def test_cpu_time_does_not_fall_when_a_process_dies() -> None:
    total = self_metrics.CumulativeCpuTime().total
    assert [total(1, 2.0), total(1, 3.0), total(2, 0.5), total(2, 1.0)] == [2.0, 3.0, 3.5, 4.0]
