# SPDX-License-Identifier: Apache-2.0
"""What /sys says of memory."""

from __future__ import annotations

import mmap
from pathlib import Path

from slabmon.kernel.memory import sysfs


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_host_with_all_of_it(tmp_path: Path) -> None:
    sys = write(
        tmp_path,
        {
            "kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "3\n",
            "kernel/mm/hugepages/hugepages-1048576kB/free_hugepages": "1\n",
            "kernel/mm/cma/reserved/alloc_pages_success": "100\n",
            "kernel/mm/cma/reserved/release_pages_success": "30\n",
            "kernel/dmabuf/buffers/17/exporter_name": "system\n",
            "kernel/dmabuf/buffers/17/size": "8192\n",
            "kernel/dmabuf/buffers/18/exporter_name": "i915\n",
            "kernel/dmabuf/buffers/18/size": "4096\n",
            "block/zram0/mm_stat": "  4096 74 12288 0 12288 0 0 0 0\n",
            "block/zram1/mm_stat": "  0 0 0 0 0 0 0 0 0\n",
        },
    )
    assert sysfs.read(sys) == {
        "hugetlb_unused": 3 * (2 << 20) + (1 << 30),
        "cma_allocated": 70 * mmap.PAGESIZE,
        "dmabuf_heaps": 8192,
        "zram zram0": 12288,
    }


def test_a_host_with_none_of_it(tmp_path: Path) -> None:
    assert sysfs.read(tmp_path) == {}


def test_a_cma_area_of_an_older_kernel_does_not_tell(tmp_path: Path) -> None:
    sys = write(tmp_path, {"kernel/mm/cma/reserved/alloc_pages_success": "100\n"})
    assert sysfs.read(sys) == {}


def test_a_balloon_is_managed_memory_only_if_it_deflates_when_memory_is_short(
    tmp_path: Path,
) -> None:
    device = "bus/virtio/devices/virtio0"
    sys = write(tmp_path, {f"{device}/device": "0x0005\n", f"{device}/features": "0110000\n"})
    assert sysfs.balloon_is_managed(sys)
    write(tmp_path, {f"{device}/features": "0100000\n"})
    assert not sysfs.balloon_is_managed(sys)
    write(tmp_path, {f"{device}/features": "0110000\n", f"{device}/device": "0x0001\n"})
    assert not sysfs.balloon_is_managed(sys)
