# SPDX-License-Identifier: Apache-2.0
"""What all pages are, together with the counters at about the same time."""

from __future__ import annotations

from slabmon.base.arrays import U8
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.memory_map import parse_list
from slabmon.kernel.census.page_kinds import PageKinds, PageMembers
from slabmon.kernel.memory.reading import MemoryReader, stack_bytes
from slabmon.kernel.probe.btf import Btf
from slabmon.kernel.probe.facts import read_text
from slabmon.memory.scan import MemoryScan

_POSSIBLE = "/sys/devices/system/cpu/possible"


class MemoryWatch:
    """Looks on while struct pages are read. `scan` is the result, None before finish(), and on
    kernels whose struct page is not understood."""

    def __init__(self, layout: Layout, btf: Btf) -> None:
        members = PageMembers.of(btf)
        cpus = len(parse_list(read_text(_POSSIBLE) or "0"))
        self._kinds = None if members is None else PageKinds(members, layout.slab_page, cpus)
        self._reader = MemoryReader(stack_bytes("task.stack_area" in layout))
        self.scan: MemoryScan | None = None

    def add(self, first: int, pages: U8) -> None:
        """Take struct pages from page frame `first` on."""
        if self._kinds is not None:
            self._kinds.add(first, pages)

    def finish(self, memory: Memory) -> None:
        """Read the counters, after the last struct page."""
        if self._kinds is None:
            return
        counters = self._reader.read(fresh=True)
        if counters is not None:
            self.scan = self._kinds.result(memory, counters)
