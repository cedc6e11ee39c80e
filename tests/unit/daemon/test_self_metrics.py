# SPDX-License-Identifier: Apache-2.0
"""What slabmon says of itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from slabmon.daemon import self_metrics


def test_memory_of_maps_is_what_the_kernel_charges(tmp_path: Path) -> None:
    (tmp_path / "3").write_text("pos:\t0\nmemlock:\t4096\n")
    (tmp_path / "4").write_text("pos:\t0\n")
    assert self_metrics.map_bytes([3, 4, 5], tmp_path) == 4096


def test_a_process_that_is_gone_uses_nothing() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    assert self_metrics.cpu_seconds(pid) == 0
    assert self_metrics.memory(pid) == (0, 0)


def test_sizes_are_looked_at_again_for_another_process_and_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, now = [], 1000.0

    def memory(pid: int) -> tuple[int, int]:
        asked.append(pid)
        return pid, 2 * pid

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(self_metrics, "map_bytes", lambda _: 7)
    monkeypatch.setattr(self_metrics, "memory", memory)
    sizes = self_metrics.Sizes()
    for _ in range(3):
        assert sizes.report({"web": 5}, []) == {
            "bpf_bytes": 7,
            "web_resident_bytes": 5,
            "web_proportional_bytes": 10,
        }
    assert asked == [5]
    assert sizes.report({"web": 6}, [])["web_resident_bytes"] == 6
    now += self_metrics.SIZES_SECONDS
    sizes.report({"web": 6}, [])
    assert asked == [5, 6, 6]


def test_cpu_time_does_not_fall_when_a_part_dies() -> None:
    total = self_metrics.Successors().total
    assert [total(1, 2.0), total(1, 3.0), total(2, 0.5), total(2, 1.0)] == [2.0, 3.0, 3.5, 4.0]
