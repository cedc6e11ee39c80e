# SPDX-License-Identifier: Apache-2.0
"""What is read while tracking sleeps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from slabmon.analysis.rising import Level
from slabmon.kernel.devres.ledger import Ledger
from slabmon.kernel.levels import Levels
from slabmon.kernel.memory.cgroups import CgroupMemory
from slabmon.kernel.probe import slabinfo
from slabmon.kernel.probe.slabinfo import Nature, SlabDirectory
from slabmon.model import Slabinfo

MEMINFO = """\
MemTotal:       16000000 kB
SUnreclaim:         2000 kB
VmallocUsed:         300 kB
Percpu:               40 kB
HugePages_Total:       5
"""


@pytest.fixture
def meminfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = {"dentry": Slabinfo(1, 1, 192, 4096), "kmalloc-64": Slabinfo(1, 1, 64, 8192)}
    monkeypatch.setattr(slabinfo, "read", lambda: rows)
    monkeypatch.setattr(
        SlabDirectory, "nature", lambda _, name, size: Nature(size, name == "dentry")
    )
    path = tmp_path / "meminfo"
    path.write_text(MEMINFO)
    return path


def cgroups(sizes: dict[str, int]) -> CgroupMemory:
    return cast(CgroupMemory, SimpleNamespace(slab_bytes=lambda now: sizes))


def test_what_the_kernel_can_shrink_and_totals_are_tolerated_more(meminfo: Path) -> None:
    levels = Levels(None, cgroups({"/system.slice": 700}), lambda: 900, meminfo)
    assert levels.read(0) == {
        "cache dentry": Level(4096, 256),
        "cache kmalloc-64": Level(8192),
        "unreclaimable slab and page-backed kmalloc": Level(2000 << 10, 16),
        "per-CPU memory": Level(40 << 10, 16),
        "vmalloc": Level(300 << 10, 16),
        "cgroup /system.slice": Level(700, 4),
        "memory that no counter names": Level(900, 16, 64),
    }


def test_devices_are_levels_of_their_own(meminfo: Path) -> None:
    held = Counter({("pci", "0000:00:03.0"): 640})
    ledger = cast(Ledger, SimpleNamespace(managed_bytes=lambda: held))
    levels = Levels(ledger, cgroups({}), lambda: None, meminfo).read(0)
    assert levels["device pci/0000:00:03.0"] == Level(640)
    assert "memory that no counter names" not in levels
