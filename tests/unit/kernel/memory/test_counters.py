# SPDX-License-Identifier: Apache-2.0
"""Counters of /proc, as several kernels write them."""

from __future__ import annotations

from slabmon.kernel.memory import counters

PAGE = counters.PAGE_BYTES


def test_sizes_of_meminfo() -> None:
    text = """MemTotal:       24684096 kB
Active(anon):       1612 kB
HugePages_Total:       3
Hugepagesize:       2048 kB
VmallocTotal:   34359738367 kB
"""
    assert counters.parse_meminfo(text) == {
        "MemTotal": 24684096 << 10,
        "Active(anon)": 1612 << 10,
        "Hugepagesize": 2048 << 10,
        "VmallocTotal": 34359738367 << 10,
    }


def test_zones_are_summed_with_the_lists_of_all_cpus() -> None:
    text = """Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 660664
  pages free     3840
        present  3998
        managed  3840
        protection: (0, 3019, 17867, 17867, 17867)
  pagesets
    cpu: 0
              count:    7
              high:     0
    cpu: 1
              count:    5
Node 0, zone   Normal
  pages free     100
        present  1000
        managed  900
  pagesets
    cpu: 0
              count: 11
"""
    assert counters.parse_zoneinfo(text) == {
        "present": 4998 * PAGE,
        "managed": 4740 * PAGE,
        "per_cpu_lists": 23 * PAGE,
    }


def test_counters_of_vmstat_that_meminfo_lacks() -> None:
    text = "nr_free_pages 17\nnr_zspages 3\nnr_active_anon 5\nnr_memmap_pages 2\n"
    assert counters.parse_vmstat(text) == {
        "zspages": 3 * PAGE,
        "lru_active_anon": 5 * PAGE,
        "memmap": 2 * PAGE,
    }


def test_ranges_of_the_kernel_in_iomem() -> None:
    text = """00001000-0009fbff : System RAM
00100000-bfffffff : System RAM
  01000000-01ffffff : Kernel code
  2d000000-30ffffff : Crash kernel
000c0000-000dffff : PCI Bus 0000:00
"""
    assert counters.parse_iomem(text) == {
        "iomem Kernel code": 16 << 20,
        "iomem Crash kernel": 64 << 20,
    }


def test_iomem_without_privileges_has_no_sizes() -> None:
    assert counters.parse_iomem("00000000-00000000 : Kernel code\n") == {}


def test_what_one_line_loses_another_gains() -> None:
    before = {"MemFree": 1000, "Cached": 300, "AnonPages": 50}
    after = {"MemFree": 900, "Cached": 380, "AnonPages": 70}
    assert counters.moved(before, after) == 100
