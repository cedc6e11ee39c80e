# SPDX-License-Identifier: Apache-2.0
"""What /sys says of memory that page allocator users hold: huge page pools, CMA, zram, dma-buf
heaps, balloons."""

from __future__ import annotations

import mmap
from pathlib import Path

from slabmon.base.escape import escape

SYS = Path("/sys")
_VIRTIO_BALLOON, _DEFLATE_ON_OOM = "0x0005", 2  # include/uapi/linux/virtio_balloon.h


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def read(sys: Path = SYS) -> dict[str, int]:
    """Return bytes by name; what this host does not have is absent."""
    amounts = {
        "hugetlb_unused": _hugetlb_unused(sys),
        "cma_allocated": _cma_allocated(sys),
        "dmabuf_heaps": _dmabuf_heaps(sys),
    }
    known = {name: size for name, size in amounts.items() if size is not None}
    return known | _zram(sys)


def _hugetlb_unused(sys: Path) -> int | None:
    """Return what pools of huge pages hold that nobody uses."""
    sizes = [
        free * int(pool.name.removeprefix("hugepages-").removesuffix("kB")) << 10
        for pool in sys.glob("kernel/mm/hugepages/hugepages-*kB")
        if (free := _number(pool / "free_hugepages")) is not None
    ]
    return sum(sizes) if sizes else None


def _cma_allocated(sys: Path) -> int | None:
    """Return what drivers hold of the areas for contiguous memory (CONFIG_CMA_SYSFS, with
    release_pages_success, 6.9 and later)."""
    sizes = [
        (taken - released) * mmap.PAGESIZE
        for area in sys.glob("kernel/mm/cma/*")
        if (taken := _number(area / "alloc_pages_success")) is not None
        and (released := _number(area / "release_pages_success")) is not None
    ]
    return max(0, sum(sizes)) if sizes else None


def _dmabuf_heaps(sys: Path) -> int | None:
    """Return the size of buffers of the system heap, which are pages of their own
    (CONFIG_DMABUF_SYSFS_STATS). Those of drivers are in other rows: shmem, GPU."""
    root = sys / "kernel/dmabuf/buffers"
    if not root.is_dir():
        return None
    sizes = []
    for buffer in root.glob("*"):
        try:
            exporter = (buffer / "exporter_name").read_text().strip()
        except OSError:
            continue
        if exporter.startswith("system"):
            sizes.append(_number(buffer / "size") or 0)
    return sum(sizes)


def _zram(sys: Path) -> dict[str, int]:
    """Return what each zram device holds (mm_stat: mem_used_total is its third number), which is
    part of `zspages`."""
    sizes = {}
    for device in sorted(sys.glob("block/zram*")):
        try:
            size = int((device / "mm_stat").read_text().split()[2])
        except (OSError, ValueError, IndexError):
            continue
        if size:
            sizes["zram " + escape(device.name.encode())] = size
    return sizes


def balloon_is_managed(sys: Path = SYS) -> bool:
    """Return whether a virtio balloon's pages are still part of MemTotal: only if it deflates when
    memory is short (fill_balloon(), drivers/virtio/virtio_balloon.c)."""
    for device in sys.glob("bus/virtio/devices/*"):
        try:
            kind = (device / "device").read_text().strip()
            features = (device / "features").read_text().strip()
        except OSError:
            continue
        if kind == _VIRTIO_BALLOON and features[_DEFLATE_ON_OOM : _DEFLATE_ON_OOM + 1] == "1":
            return True
    return False
