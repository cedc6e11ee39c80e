# SPDX-License-Identifier: Apache-2.0
"""Readings of a made-up /proc and /sys."""

from __future__ import annotations

import errno
from pathlib import Path

from slabmon.kernel.memory.reading import MemoryReader, stack_bytes

MEMINFO = (
    "MemTotal: 4000 kB\nMemFree: 1000 kB\nMemAvailable: 1500 kB\nKernelStack: 16 kB\n"
    "DirectMap4k: 64 kB\n"
)


def proc(root: Path, **files: str) -> Path:
    for name, text in files.items():
        (root / name).write_text(text)
    return root


def no_pools() -> dict[str, int]:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_reading_keeps_what_the_ledger_and_early_findings_need(tmp_path: Path) -> None:
    area = "0x0-0x1 8192 f+0x1/0x2 pages=1 vmalloc N0=1\n"
    proc(tmp_path, meminfo=MEMINFO, vmallocinfo=area, vmstat="nr_zspages 1\n")
    (tmp_path / "net").mkdir()
    (tmp_path / "net/sockstat").write_text("TCP: inuse 2 mem 3\nUDP: inuse 0 mem 4\n")
    read = MemoryReader(16384, tmp_path, tmp_path / "sys", lambda: {"eth0": 4096}).read()
    assert read is not None
    assert read.amounts == {
        "MemTotal": 4000 << 10,
        "MemFree": 1000 << 10,
        "MemAvailable": 1500 << 10,
        "KernelStack": 16 << 10,
        "zspages": 4096,
        "sockets": 7 * 4096,
        "balloon_managed": 0,
        "stacks_in_vmalloc": 1,
    }
    assert read.vmalloc is not None
    assert [row.symbol for row in read.vmalloc] == ["f"]
    assert (read.page_pools, read.unobserved, read.moved_bytes) == ({"eth0": 4096}, {}, 0)


def test_what_is_missing_has_a_reason(tmp_path: Path) -> None:
    proc(tmp_path, meminfo=MEMINFO)
    read = MemoryReader(0, tmp_path, tmp_path / "sys", no_pools).read()
    assert read is not None
    assert (read.vmalloc, read.page_pools) == (None, None)
    assert read.unobserved == {
        "page_pools": "Operation not permitted",
        "vmalloc": f"{tmp_path}/vmallocinfo: No such file or directory",
    }
    assert read.amounts["stacks_in_vmalloc"] == 0


def test_without_meminfo_there_is_no_reading(tmp_path: Path) -> None:
    assert MemoryReader(0, tmp_path, tmp_path, no_pools).read() is None


def test_a_reading_that_moved_is_repeated_and_the_calmest_is_kept(tmp_path: Path) -> None:
    texts = iter(
        f"MemTotal: 40000 kB\nMemFree: {free} kB\n"
        for free in (0, 30000, 30000, 9000, 9000, 8000, 8000, 7990)
    )

    class Moving(MemoryReader):
        def _text(self, name: str) -> str:
            return next(texts) if name == "meminfo" else ""

    read = Moving(0, tmp_path, tmp_path, no_pools).read()
    assert read is not None
    assert read.amounts["MemFree"] == 8000 << 10  # moved by 500 kB: calm enough
    assert read.moved_bytes == 500 << 10


def test_stacks_are_known_if_vmalloc_allocates_them() -> None:
    assert stack_bytes(True) == 16384
    assert stack_bytes(False) == 0
