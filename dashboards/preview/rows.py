# SPDX-License-Identifier: Apache-2.0
"""Rows of a synthetic host at a moment: its caches, call sites, devices and pages."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sin
from typing import Any

from slabmon.model import BlockKind, Cache, Device, Live, PageSite, Site, Slabinfo
from tests.support.builders import cache, device, page_site, site

MIB, GIB, HOUR = 1 << 20, 1 << 30, 3600.0
LEAK_STARTS = 2 * HOUR
# Name, object size, bytes of slabs, allocations a second, whether reclaimable.
CACHES = (
    ("dentry", 192, 310 * MIB, 5200, True),
    ("ext4_inode_cache", 1192, 820 * MIB, 900, True),
    ("inode_cache", 640, 96 * MIB, 300, True),
    ("radix_tree_node", 576, 210 * MIB, 700, True),
    ("buffer_head", 104, 140 * MIB, 1500, True),
    ("kmalloc-64", 64, 38 * MIB, 9000, False),
    ("kmalloc-512", 512, 64 * MIB, 4100, False),
    ("kmalloc-1k", 1024, 42 * MIB, 2600, False),
    ("kmalloc-cg-192", 192, 18 * MIB, 2300, False),
    ("filp", 256, 26 * MIB, 6100, False),
    ("task_struct", 9984, 74 * MIB, 40, False),
    ("vm_area_struct", 184, 52 * MIB, 3300, False),
    ("sock_inode_cache", 832, 22 * MIB, 220, False),
    ("skbuff_head_cache", 256, 9 * MIB, 15000, False),
)
# Symbol, module, bytes of an object, allocations a second, live bytes.
SITES = (
    ("__d_alloc", None, 192, 5200, 210 * MIB),
    ("ext4_alloc_inode", "ext4", 1192, 900, 540 * MIB),
    ("alloc_empty_file", None, 256, 6100, 17 * MIB),
    ("vm_area_alloc", None, 184, 3300, 31 * MIB),
    ("__alloc_skb", None, 512, 15000, 8 * MIB),
    ("sk_prot_alloc", None, 1024, 220, 12 * MIB),
    ("nvme_setup_cmd", "nvme_core", 64, 4000, 2 * MIB),
    ("fuse_request_alloc", "fuse", 160, 120, 3 * MIB),
)
# Bus, name, driver, resources, bytes of them.
DEVICES = (
    ("pci", "0000:00:03.0", "nic", 41, 310_000),
    ("pci", "0000:00:04.0", "nvme", 28, 96_000),
    ("pci", "0000:00:1f.2", "ahci", 19, 41_000),
    ("platform", "serial8250", "serial8250", 6, 5_200),
    ("usb", "1-1", "usb", 11, 14_000),
)


def wave(seconds: float, number: int, depth: float = 0.08) -> float:
    """Return a factor about 1 that rises and falls in hours, differently for each number."""
    return 1 + depth * sin(2 * pi * seconds / (HOUR * (1 + number % 4)) + number)


@dataclass(frozen=True)
class Moment:
    """A host `seconds` after tracking began; `leak` is what its driver nic loses a second."""

    seconds: float
    size: float
    leak: float
    failing: bool

    @property
    def lost(self) -> int:
        """Bytes that the driver has lost so far."""
        return round(self.leak * max(self.seconds - LEAK_STARTS, 0))

    def cache_row(self, number: int) -> Cache:
        """Return a cache."""
        name, size, held, pace, reclaimable = CACHES[number]
        leaked = self.lost if name == "kmalloc-1k" else 0
        held = round(held * self.size * wave(self.seconds, number)) + leaked
        allocs = (
            round(pace * self.size * self.seconds * wave(self.seconds, number, 0.002))
            + leaked // size
        )
        live = round(0.4 * held * min(self.seconds / HOUR, 1)) + leaked
        count = live // size
        bounds = (live // 20, live - live // 10, live + live // 10)
        return cache(
            name,
            object_size=size,
            allocs=allocs,
            frees=max(allocs - count, 0),
            failed=round(self.seconds / 60) if self.failing and number in (5, 6) else 0,
            requested_bytes=round((0.97 - 0.02 * number) * size * allocs),
            allocated_bytes=size * allocs,
            freed_bytes=size * max(allocs - count, 0),
            live=Live(count, live, *bounds),
            frees_observable=name != "task_struct",
            unobserved_frees=allocs // 50 if name == "task_struct" else 0,
            reclaimable=reclaimable,
            slabinfo=Slabinfo(round(0.9 * held / size), held // size, size, held),
        )

    def site_row(self, number: int) -> Site:
        """Return a call site."""
        symbol, module, size, pace, held = SITES[number]
        live = round(held * self.size * min(self.seconds / HOUR, 1) * wave(self.seconds, number))
        allocs = round(pace * self.size * self.seconds)
        return site(
            symbol,
            0x1C + number,
            module,
            allocs=allocs,
            failed=round(self.seconds / 90) if self.failing and number == 4 else 0,
            allocated_bytes=size * allocs,
            live=Live(live // size, live, live // 20, live - live // 10, live + live // 10),
        )

    def leaking_site(self) -> Site:
        """Return the call site that leaks."""
        lost = self.lost
        live = Live(lost >> 10, lost, lost // 9, round(0.8 * lost), round(1.2 * lost))
        allocs = round(90 * self.seconds) + (lost >> 10)
        return site(
            "nic_ring_fill", 0x5C, "nic", allocs=allocs, allocated_bytes=allocs << 10, live=live
        )

    def device_row(self, number: int) -> Device:
        """Return a device."""
        bus, name, driver, resources, managed = DEVICES[number]
        more = round(self.lost / MIB) if driver == "nic" else 0
        dma: dict[str, Any] = {}
        if bus == "pci":
            dma = {"dma_bytes": managed * 16, "dma_allocs": resources, "dma_frees": 0}
            dma["dma_allocated_bytes"] = managed * 16
        return device(
            bus,
            name,
            driver=driver,
            module=driver,
            resources=resources + more,
            managed_bytes=managed + 512 * more,
            slab_bytes=2 * managed + 1024 * more,
            added=resources + more + round(self.seconds / 600),
            removed=round(self.seconds / 600),
            **dma,
        )

    def pages(self) -> tuple[PageSite, ...]:
        """Return the call sites of pages and per-CPU memory."""
        held = {
            "anon_pipe_write": 12 * MIB,
            "alloc_skb_with_frags": 30 * MIB,
            "nic_ring_pages": 64 * MIB,
        }
        found = []
        for number, (symbol, most) in enumerate(held.items()):
            live = round(most * self.size * wave(self.seconds, number, 0.2))
            figures = Live(live >> 12, live, live // 20, live - live // 10, live + live // 10)
            module = "nic" if symbol.startswith("nic") else None
            found.append(page_site(symbol=symbol, module=module, live=figures))
        percpu = Live(40_000, 21 * MIB, 0, 21 * MIB, 21 * MIB)
        account = {"by": "pcpu_alloc", "account": "percpu", "exact": True}
        return (*found, page_site(kind=BlockKind.PERCPU, symbol="mm_init", live=percpu, **account))
