# SPDX-License-Identifier: Apache-2.0
"""The table of BPF programs: where each is attached, and what it counts.

The probe, the plan, the loader and the reader of lanes all follow it, and a test compares it with
bpf/slabmon.bpf.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Direction(StrEnum):
    """Effect of a program's events on the number of objects."""

    ALLOC = "alloc"
    FREE = "free"
    NEITHER = "neither"


@dataclass(frozen=True, kw_only=True)
class ProgramSpec:
    """A program, which is the function `name` of bpf/slabmon.bpf.c.

    It is attached to the raw tracepoint `event`, or as `kind` (fentry or fexit) to the first of
    `functions` that the kernel has; the daemon runs those that are `on_demand` itself. `feature`
    is the capability it belongs to. A program that counts has a map NAME_lanes for NAME in
    `lanes`, and counts slab objects unless it counts `pages` of the page allocator. `tail_calls`
    is the map through which it calls itself. Hosts without a `required` event are not supported.
    """

    name: str
    feature: str
    event: str = ""
    functions: tuple[str, ...] = ()
    kind: str = ""
    on_demand: bool = False
    required: bool = False
    direction: Direction = Direction.NEITHER
    lanes: str = ""
    pages: bool = False
    tail_calls: str = ""

    @property
    def maps(self) -> tuple[str, ...]:
        """Maps that only this program and those with the same lanes use."""
        return (*((f"{self.lanes}_lanes",) if self.lanes else ()), *filter(None, [self.tail_calls]))


WALK, SEED = "walk_devices", "on_net_dev_queue"
# Calls the probe function of a driver for a device (drivers/base/dd.c).
PROBE_FUNCTION = "really_probe"
READ_WORD, FILL_POOL, LOCATE_VMEMMAP = "read_word", "fill_pool", "locate_vmemmap"

PROGRAMS = (
    ProgramSpec(
        name="on_kmalloc",
        feature="kmalloc",
        event="kmalloc",
        required=True,
        direction=Direction.ALLOC,
        lanes="kmalloc",
    ),
    ProgramSpec(  # an event of its own before 6.1
        name="on_kmalloc_node",
        feature="kmalloc",
        event="kmalloc_node",
        direction=Direction.ALLOC,
        lanes="kmalloc",
    ),
    ProgramSpec(
        name="on_kmem_cache_alloc",
        feature="kmem_cache_alloc",
        event="kmem_cache_alloc",
        required=True,
        direction=Direction.ALLOC,
        lanes="cache_alloc",
    ),
    ProgramSpec(  # an event of its own before 6.1
        name="on_kmem_cache_alloc_node",
        feature="kmem_cache_alloc",
        event="kmem_cache_alloc_node",
        direction=Direction.ALLOC,
        lanes="cache_alloc",
    ),
    ProgramSpec(
        name="on_kfree",
        feature="kfree",
        event="kfree",
        required=True,
        direction=Direction.FREE,
        lanes="kfree",
    ),
    ProgramSpec(
        name="on_kmem_cache_free",
        feature="kmem_cache_free",
        event="kmem_cache_free",
        required=True,
        direction=Direction.FREE,
        lanes="cache_free",
    ),
    ProgramSpec(
        name="on_bulk_alloc",
        feature="bulk_alloc",
        functions=("kmem_cache_alloc_bulk_noprof", "kmem_cache_alloc_bulk"),
        kind="fexit",
        direction=Direction.ALLOC,
        lanes="bulk_alloc",
        tail_calls="bulk_alloc_next",
    ),
    ProgramSpec(
        name="on_bulk_free",
        feature="bulk_free",
        functions=("kmem_cache_free_bulk",),
        kind="fentry",
        direction=Direction.FREE,
        lanes="bulk_free",
        tail_calls="bulk_free_next",
    ),
    ProgramSpec(
        name="on_rcu_free",
        feature="rcu_free",
        functions=("__kfree_rcu_sheaf",),
        kind="fexit",
        direction=Direction.FREE,
        lanes="rcu_free",
    ),
    ProgramSpec(
        name="on_driver_probe", feature="driver_probes", functions=(PROBE_FUNCTION,), kind="fentry"
    ),
    ProgramSpec(
        name="on_driver_probe_end",
        feature="driver_probes",
        functions=(PROBE_FUNCTION,),
        kind="fexit",
    ),
    ProgramSpec(
        name="on_mm_page_alloc",
        feature="pages",
        event="mm_page_alloc",
        direction=Direction.ALLOC,
        lanes="page_alloc",
        pages=True,
    ),
    ProgramSpec(
        name="on_mm_page_free",
        feature="pages",
        event="mm_page_free",
        direction=Direction.FREE,
        lanes="page_free",
        pages=True,
    ),
    # Of neither direction: they are rare, and counted while tracking sleeps too.
    ProgramSpec(name="on_percpu_alloc_percpu", feature="percpu", event="percpu_alloc_percpu"),
    ProgramSpec(
        name="on_percpu_alloc_percpu_fail", feature="percpu", event="percpu_alloc_percpu_fail"
    ),
    ProgramSpec(name="on_percpu_free_percpu", feature="percpu", event="percpu_free_percpu"),
    ProgramSpec(name="on_devres_log", feature="devres_log", event="devres_log"),
    # Of neither direction, as those of per-CPU memory.
    ProgramSpec(name="on_dma_alloc", feature="dma", event="dma_alloc"),
    ProgramSpec(name="on_dma_free", feature="dma", event="dma_free"),
    ProgramSpec(name="on_dma_alloc_pages", feature="dma_pages", event="dma_alloc_pages"),
    ProgramSpec(name="on_dma_free_pages", feature="dma_pages", event="dma_free_pages"),
    ProgramSpec(name="on_dma_alloc_sgt", feature="dma_pages", event="dma_alloc_sgt"),
    ProgramSpec(name="on_dma_alloc_sgt_err", feature="dma_pages", event="dma_alloc_sgt_err"),
    ProgramSpec(name="on_dma_free_sgt", feature="dma_pages", event="dma_free_sgt"),
    ProgramSpec(name="on_process_fork", feature="process_tree", event="sched_process_fork"),
    ProgramSpec(name="on_module_load", feature="modules", event="module_load"),
    ProgramSpec(name="on_module_free", feature="modules", event="module_free"),
    ProgramSpec(name=WALK, feature="device_inventory", on_demand=True),
    # Attached for an instant: any packet sent leads to a network device.
    ProgramSpec(name=SEED, feature="device_inventory", event="net_dev_queue", on_demand=True),
    ProgramSpec(name=READ_WORD, feature="cache_of_address", on_demand=True),
    ProgramSpec(name=LOCATE_VMEMMAP, feature="cache_of_address", on_demand=True),
    ProgramSpec(name=FILL_POOL, feature="recursion_guard", on_demand=True),
)
BY_NAME = {spec.name: spec for spec in PROGRAMS}
EVENTS = tuple(spec.event for spec in PROGRAMS if spec.event)
FUNCTIONS = tuple(dict.fromkeys(name for spec in PROGRAMS for name in spec.functions))


def _events(*, pages: bool) -> frozenset[str]:
    return frozenset(
        spec.event
        for spec in PROGRAMS
        if spec.event and spec.direction != Direction.NEITHER and spec.pages == pages
    )


def attachments(direction: Direction) -> frozenset[str]:
    """Return the attachments of all programs that count events of this direction, by the names that
    Programs gives them: of tracepoints the event, of functions the program."""
    return frozenset(spec.event or spec.name for spec in PROGRAMS if spec.direction == direction)


ALLOCATION_EVENTS = _events(pages=False)  # of slab objects, frees included
PAGE_EVENTS = _events(pages=True)
