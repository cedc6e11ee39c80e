# SPDX-License-Identifier: Apache-2.0
"""Failed allocations, as they can be seen without events."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from slabmon.analysis.rising import Failures
from slabmon.kernel.failures import FailureCounters, KernelLog
from slabmon.kernel.memory.cgroups import CgroupMemory

PAGE = b"4,1206,3170,-;swapper/0: page allocation failure: order:3, mode:0xcc0(GFP_KERNEL)\n"
SLUB = b"4,1207,3171,-;SLUB: Unable to allocate memory on CPU 1 (of node 0) on node -1\n"
OTHERS = b"6,1208,3172,-;usb 1-1: new device\n"
# From a process: facility 1 (user), 3 (daemon).
WRITTEN = b"12,1209,3173,-;page allocation failure\n"


class FakeLog:
    """/dev/kmsg: one record a read, EAGAIN at the end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records: list[bytes | int] = []
        monkeypatch.setattr(os, "read", self._read)

    def _read(self, descriptor: int, size: int) -> bytes:
        record = self.records.pop(0) if self.records else 11  # EAGAIN
        if isinstance(record, int):
            raise OSError(record, os.strerror(record))
        return record


def test_warnings_of_the_kernel_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(PAGE)
    log, device = KernelLog(path), FakeLog(monkeypatch)
    assert (log.read(), log.problem) == (0, "")
    device.records = [PAGE, OTHERS, 32, SLUB, WRITTEN]  # EPIPE: some were overwritten
    assert log.read() == 2
    assert log.read() == 2
    device.records = [SLUB]
    assert log.read() == 3


def test_a_log_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    log = KernelLog(tmp_path / "none")
    assert log.read() == 0
    assert log.problem == f"kernel log: {tmp_path}/none: No such file or directory"


def test_the_counters_of_all_zones_are_summed(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 7\nallocstall_dma 2\nallocstall_normal 40\noom_kill 3\n")
    cgroups = cast(CgroupMemory, SimpleNamespace(out_of_memory=lambda: 5))
    counters = FailureCounters(cgroups, vmstat, tmp_path / "none")
    assert counters.read() == {
        "warnings of failed allocations": Failures(0),
        "processes killed for lack of memory": Failures(3),
        "times a cgroup was out of memory": Failures(5),
        "allocations that waited for memory": Failures(42, 100),
    }
