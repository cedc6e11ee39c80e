# SPDX-License-Identifier: Apache-2.0
"""Per-CPU memory: where it is, and the slabs that CPUs allocate from (kmem_cache_cpu, up to 7.0).

All objects of such a slab count as in use in its descriptor: those that are free are on the CPU's
own list. The counters of slabs on a CPU's list of partial slabs are right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from slabmon.base.arrays import I64, U64, Bool
from slabmon.kernel.census.caches import Caches
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.memory import KernelMemory, Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES, parse_list
from slabmon.kernel.census.pages import column
from slabmon.kernel.census.slabs import NONE, Slabs

_ONLINE = Path("/sys/devices/system/cpu/online")
NEEDED = ("task.files", "files.fdt", "fdt.fd", "file.private", "array.pptrs")
_RUN_QUEUE = ("percpu.runqueues", "rq.cpu", "rq.idle", "task.comm")
_MOST_STATIC = 1 << 22  # bytes of per-CPU variables of the kernel's image
_COMM_BYTES = 16  # TASK_COMM_LEN
LISTS = ("cache.cpu_slab", "cpu_slab.freelist", "cpu_slab.slab")


def online_cpus(path: Path = _ONLINE) -> list[int]:
    """Return the CPUs that run. Others hold no slabs (slub_cpu_dead(), mm/slub.c)."""
    return parse_list(path.read_text())


def offsets(memory: KernelMemory, layout: Layout, task: int, cpus: list[int]) -> Mapping[int, int]:
    """Return for each CPU what to add to a per-CPU pointer (__per_cpu_offset[]).

    A per-CPU array of BPF shows it: the kernel keeps its per-CPU pointer in struct bpf_array, here
    reached through the reader's own file descriptor, and a program on each CPU gets the address of
    that CPU's copy. Each run is a function call on that CPU, of a microsecond. None are known if
    this kernel's structures are not.
    """
    if not layout.has(*NEEDED):
        return {}
    table = memory.word(memory.word(task + layout["task.files"]) + layout["files.fdt"])
    file = memory.word(memory.word(table + layout["fdt.fd"]) + 8 * memory.cpu_words_fd)
    array = memory.word(file + layout["file.private"])
    pointer = memory.word(array + layout["array.pptrs"])
    result = {}
    for cpu in cpus:
        with contextlib.suppress(OSError):  # ENXIO: it went offline
            result[cpu] = (memory.locate(cpu)[1] - pointer) % (1 << 64)
    return result


def addresses(pointers: U64, cpu_offsets: Mapping[int, int]) -> U64:
    """Return the address of each CPU's copy behind each per-CPU pointer, (CPUs, pointers); 0 where
    the pointer is."""
    bases = np.array(list(cpu_offsets.values()), np.uint64)[:, None]
    return np.where(pointers == 0, np.uint64(0), pointers + bases)


def find_variables(
    memory: Memory,
    layout: Layout,
    caches: Caches,
    cpu_offsets: Mapping[int, int],
    in_ram: Callable[[U64], Bool],
) -> U64:
    """Return the address of each CPU's copy of the section of per-CPU variables, in whose order
    BTF has them; none if it is not found.

    The allocator's first chunk begins with it, and goes on with what the first caches allocated
    (pcpu_embed_first_chunk(), mm/percpu.c).
    """
    pointers = np.concatenate([caches.cpu_slab, caches.cpu_sheaves])
    pointers = pointers[pointers != 0]
    pointers = pointers[in_ram(addresses(pointers, cpu_offsets)).all(axis=0)]
    if not cpu_offsets or not len(pointers):
        return np.zeros(0, np.uint64)
    page = np.uint64(PAGE_BYTES)
    starts = (
        pointers.min() // page - np.arange(_MOST_STATIC // PAGE_BYTES, dtype=np.uint64)
    ) * page
    copies = starts + np.array(list(cpu_offsets.values()), np.uint64)[:, None]
    copies[~in_ram(copies)] = 0
    right = (copies != 0).all(axis=0)
    for (cpu, offset), places in zip(cpu_offsets.items(), copies, strict=True):
        if "percpu.this_cpu_off" in layout:  # x86
            words = memory.words(places + np.uint64(layout["percpu.this_cpu_off"]))
            right &= words == np.uint64(offset)
        elif layout.has(*_RUN_QUEUE):
            right &= _are_of_cpu(memory, layout, places, cpu, in_ram)
        else:
            right[:] = False
    sections: U64 = copies[:, right]
    return sections[:, 0] if sections.shape[1] == 1 else np.zeros(0, np.uint64)


def _are_of_cpu(
    memory: Memory, layout: Layout, sections: U64, cpu: int, in_ram: Callable[[U64], Bool]
) -> Bool:
    """Return which places have a run queue with the CPU's number, and an idle task that is called
    after the CPU (init_idle(), kernel/sched/core.c), or is part of the kernel's image."""
    queues = sections + np.uint64(layout["percpu.runqueues"])
    numbers = memory.gather(queues + np.uint64(layout["rq.cpu"]), 4).view(np.uint32)[:, 0]
    right: Bool = numbers == cpu
    idle = memory.words(queues + np.uint64(layout["rq.idle"]))
    right &= idle != 0
    seen = np.flatnonzero(right & in_ram(idle))
    names = memory.gather(idle[seen] + np.uint64(layout["task.comm"]), _COMM_BYTES)
    called = f"swapper/{cpu}".encode()
    right[seen] = [row.tobytes().partition(b"\0")[0] == called for row in names]
    return right


def cpu_lists(
    memory: Memory, layout: Layout, slabs: Slabs, vmemmap: int, cpu_offsets: Mapping[int, int]
) -> tuple[I64, U64]:
    """Return the slabs that CPUs allocate from, by row, and the address of the first free object of
    each on the CPU's own list."""
    if not layout.has(*LISTS):
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    places = addresses(slabs.caches.cpu_slab, cpu_offsets).ravel()
    members = [layout["cpu_slab.freelist"], layout["cpu_slab.slab"]]
    raw = memory.gather(places[places != 0], max(members) + 8)
    freelists, descriptors = (column(raw, member, np.uint64) for member in members)
    used = (freelists != 0) & (descriptors != 0)
    pfns = (descriptors[used] - np.uint64(vmemmap)).astype(np.int64) // layout.sizes["page"]
    rows = slabs.row_of_page(pfns)
    return rows[rows != NONE], freelists[used][rows != NONE]
