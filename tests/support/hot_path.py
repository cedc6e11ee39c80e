# SPDX-License-Identifier: Apache-2.0
"""The cost of one event on the hot path, in instructions, calls and cache lines.

`python -m tests.support.hot_path > tests/support/hot_path.toml` records the current cost; the test
compares with it. Unlike times, these figures depend neither on the machine nor on its load.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from slabmon.kernel.bpf.layout import ALLOC_SLOT, CONTROL, FREE_SLOT, LANE_HEAD
from slabmon.kernel.bpf.sources import BPF_DIR
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.exact_target import EVERYTHING, Target
from slabmon.kernel.loading import compile_child
from slabmon.kernel.loading.loader import map_names
from slabmon.kernel.planning.plan import Plan, make_plan
from slabmon.kernel.settings import Settings, When
from tests.support import gcc
from tests.support.bpf_machine import Machine, map_number
from tests.support.hosts import facts, inline_lookup

SMALL = Settings(samples=4096, site_slots=256, cache_slots=64, caches=256)
MODES = {
    "default": SMALL,
    "exact": replace(SMALL, stack_frames=0, exact=Filter(min_size=1)),
    "exact, filtered": replace(SMALL, exact=Filter(cache="none")),
}
HOSTS = {"asks the kernel": facts(), "by struct page": inline_lookup()}
PAGES, ELEMENTS, TASKS = 1 << 50, 1 << 52, 1 << 53
TEXT, OBJECT, CACHE, GFP = 0xFFFFFFFF81000000, 0xFFFF888100000000, 1 << 51, 0xCC0
SIZE = 128
MOVABLE = 1 << 3
_COUNTDOWN = (
    list(LANE_HEAD.names or ()).index("countdown") * 8
)  # all members before it are of 64 bits
_LOOKUP, _CPU, _TIME, _RANDOM, _TASK, _CURRENT, _COMM, _CGROUP = 1, 8, 5, 7, 14, 35, 16, 80
_READ, _READ_TEXT, _UPDATE = 113, 115, 2


def compiled(plan: Plan) -> Any:
    """Return bcc's module of a plan; nothing is loaded."""
    os.environ["BCC_KERNEL_SOURCE"] = str(BPF_DIR)
    defines = {**plan.defines, **compile_child.map_constants(map_names(plan))}
    return compile_child.import_bcc().BPF(
        src_file=os.fsencode(BPF_DIR / "slabmon.bpf.c"),
        cflags=[*compile_child._CFLAGS, f"-I{BPF_DIR}", *gcc.defines(defines)],
    )


class Programs:
    """Compiled programs, with maps in this process."""

    def __init__(self, plan: Plan) -> None:
        self.module = compiled(plan)
        self._library = compile_child.import_bcc().lib
        at = plan.defines
        self._active_memcg = TASKS + at["OFF_TASK_ACTIVE_MEMCG"]
        self._sizes = {
            self._library.bpf_table_fd(self.module.module, name): self._library.bpf_table_leaf_size(
                self.module.module, name
            )
            for name in (b"tags", b"pool")
        }
        helpers: dict[int, Callable[..., int]] = {
            _LOOKUP: self._lookup,
            _CPU: lambda *_: 0,
            _TIME: lambda *_: 10**9,
            _RANDOM: lambda *_: 1,
            _TASK: lambda *_: 0,
            _CURRENT: lambda *_: TASKS,
            _COMM: lambda *_: 0,
            _CGROUP: lambda *_: 1,
            _READ: self._read,
            _READ_TEXT: lambda *_: 0,
            _UPDATE: lambda *_: 0,
            at["KFUNC_GET_KMEM_CACHE"]: lambda *_: CACHE,
        }
        free = {_LOOKUP, _CPU}
        if at["HAVE_PAGE_LOOKUP_INLINE"]:
            helpers[at["KFUNC_RDONLY_CAST"]] = lambda address, *_: address
            free.add(at["KFUNC_RDONLY_CAST"])
        self.machine = Machine(helpers, frozenset(free))
        self._prepare(at, compile_child.map_constants(map_names(plan)))

    def _prepare(self, at: Mapping[str, int], values: Mapping[str, int]) -> None:
        memory = self.machine.memory
        shared = memory[values["shared_value"]] = bytearray(
            CONTROL.itemsize + (1 << at["NR_FILTER_BITS"])
        )
        control = np.frombuffer(shared, CONTROL, 1)[0:1]
        control["core_text"], control["core_text_bytes"] = TEXT, 1 << 24
        control["sample_interval"] = 1 << 30
        for name, slot, slots in (
            ("kmalloc_lanes_value", ALLOC_SLOT, at["NR_ALLOC_SLOTS"]),
            ("cache_alloc_lanes_value", ALLOC_SLOT, at["NR_ALLOC_SLOTS"]),
            ("kfree_lanes_value", FREE_SLOT, at["NR_FREE_SLOTS"]),
            ("cache_free_lanes_value", FREE_SLOT, at["NR_FREE_SLOTS"]),
        ):
            memory[values[name]] = bytearray(LANE_HEAD.itemsize + slots * slot.itemsize)
            self.machine.write(values[name] + _COUNTDOWN, 8, 1 << 40)
        if at["HAVE_PAGE_SITES"]:
            memory[values["block_filter_value"]] = bytearray(1 << at["NR_BLOCK_FILTER_BITS"])
        # A task that is its own runqueue, and does nothing else.
        words = np.full(512, TASKS, "<u8")
        memory[TASKS] = bytearray(words.tobytes())
        if at["HAVE_PAGE_LOOKUP_INLINE"]:
            page = PAGES - (OBJECT >> 12) * at["PAGE_STRUCT_BYTES"] & (1 << 64) - 1
            control["page_base"] = page
            memory[PAGES] = bytearray(at["PAGE_STRUCT_BYTES"])
            self.machine.write(PAGES + at["OFF_PAGE_SLAB_TEST"], 4, at["PAGE_SLAB_VALUE"])
            self.machine.write(PAGES + at["OFF_SLAB_CACHE"], 8, CACHE)

    def _lookup(self, handle: int, key: int, *_: int) -> int:
        """Return the address of an element, which is created by its first look-up."""
        number = map_number(handle)
        size: int | None = self._sizes.get(number)
        if size is None:
            return 0
        address = ELEMENTS + (number << 40) + self.machine.read(key, 4) * size
        if address not in self.machine.memory:
            self.machine.memory[address] = bytearray(size)
        return address

    def _read(self, to: int, size: int, address: int, *_: int) -> int:
        """Read kernel memory: the object size of a cache, or a pointer. No other cgroup is charged
        than the task's."""
        found = SIZE if size == 4 else OBJECT
        self.machine.write(to, size, 0 if address == self._active_memcg else found)
        return 0

    def event(self, program: str, *arguments: int) -> dict[str, int]:
        """Run one event and return its cost."""
        code = self.module.dump_func(program.encode())
        cost = self.machine.run(code, arguments)
        return {"instructions": cost.instructions, "calls": cost.calls, "lines": len(cost.lines)}


def measure() -> dict[str, dict[str, dict[str, int]]]:
    """Return the costs by host and mode, and by event. Each kind of event was seen before, as
    nearly all have been."""
    costs = {}
    for (host, known), (mode, settings) in itertools.product(HOSTS.items(), MODES.items()):
        exact = settings.exact
        target = Target(caches=("none",)) if exact and exact.cache else EVERYTHING
        programs = Programs(make_plan(known, settings, target))
        row = {}
        for _ in range(3):
            row["kmalloc"] = programs.event("on_kmalloc", TEXT, OBJECT, 100, SIZE, GFP, -1)
            row["kfree"] = programs.event("on_kfree", TEXT, OBJECT)
            row["kmem_cache_alloc"] = programs.event(
                "on_kmem_cache_alloc", TEXT, OBJECT, CACHE, GFP, -1
            )
            row["kmem_cache_free"] = programs.event("on_kmem_cache_free", TEXT, OBJECT, CACHE)
        costs[f"{mode}, {host}"] = row
    costs["pages, while they are watched"] = measure_pages()
    return costs


def measure_pages() -> dict[str, dict[str, int]]:
    """Return the costs of events of pages that are not tracked: of users' and of the kernel's."""
    programs = Programs(make_plan(facts(), replace(SMALL, when=When.AUTO)))
    return {
        "mm_page_alloc_user": programs.event("on_mm_page_alloc", PAGES, 0, GFP | MOVABLE, 0),
        "mm_page_alloc_kernel": programs.event("on_mm_page_alloc", PAGES, 0, GFP, 0),
        "mm_page_free": programs.event("on_mm_page_free", PAGES, 0),
    }


def main() -> int:
    """Print the figures as TOML."""
    lines = [
        # REUSE-IgnoreStart
        "# SPDX-License-Identifier: Apache-2.0",
        # REUSE-IgnoreEnd
        "# Written by `python -m tests.support.hot_path`: the cost of one event.",
    ]
    for name, row in measure().items():
        lines += ["", f'["{name}"]']
        lines += [
            f"{event} = {{ {', '.join(f'{key} = {value}' for key, value in cost.items())} }}"
            for event, cost in row.items()
        ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
