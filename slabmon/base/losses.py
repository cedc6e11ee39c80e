# SPDX-License-Identifier: Apache-2.0
"""Classes of the loss reasons that a snapshot's `losses` and slabmon_lost_events_total count.

The reasons of the BPF programs and their classes are those of bpf/layout.h (a test compares them);
the others are added by slabmon.kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class LossClass(StrEnum):
    """Classes of losses: what kind of information is missing."""

    ALLOC = "alloc"  # an allocation was not counted
    FREE = "free"  # a free was not counted, or not completely
    EVENT = "event"  # an allocation or a free was not counted
    SAMPLE = "sample"  # an allocation was counted, but not tracked
    DETAIL = "detail"  # an event was counted without some of its attributes
    DEVICE = "device"  # a change of devices, their memory or modules was missed


EVENTS_FULL = "events_full"  # the ring buffer of device and module events was full
DRIVER_PROBES_LOST = "driver_probes_lost"  # no room: their objects are of no known device
DMA_LOSSES = ("dma_lost", "dma_replaced")  # of DMA memory, as in struct control of bpf/layout.h
DEVICE_LEDGER_DISAGREEMENT = "device_ledger_disagreement"
DEVICE_WALK_FAILED = "device_walk_failed"
# Of pages and per-CPU memory by call path, as in struct control of bpf/layout.h.
BLOCK_LOSSES = ("blocks_full", "paths_full", "block_stacks", "blocks_replaced", "block_parts")
# With a program's name: the kernel did not run the program, because it was running on that CPU.
RECURSION_PREFIX = "recursion_"
_ALLOCATIONS = (
    "kmalloc",
    "kmalloc_node",
    "kmem_cache_alloc",
    "kmem_cache_alloc_node",
    "bulk_alloc",
)
_LOST_ALLOCATIONS = tuple(f"{RECURSION_PREFIX}{program}" for program in _ALLOCATIONS)
# It frees no objects of kmalloc(), as kfree() does those of caches (mm/slub.c, 6.4+).
_KMEM_CACHE_FREE = f"{RECURSION_PREFIX}kmem_cache_free"
# Of programs whose events are not those of slab objects.
_OTHER_RECURSIONS = tuple(
    f"{RECURSION_PREFIX}{program}" for program in ("mm_page", "percpu", "driver_probe", "dma")
)

LOSS_CLASSES: Mapping[str, LossClass] = {
    "site_slots_full": LossClass.ALLOC,
    "cache_slots_full": LossClass.FREE,
    "cache_table_full": LossClass.DETAIL,
    "cache_unresolved": LossClass.EVENT,
    "large_free_size": LossClass.DETAIL,
    "samples_full": LossClass.SAMPLE,
    "sample_enomem": LossClass.SAMPLE,
    "sample_ebusy": LossClass.SAMPLE,
    "sample_other": LossClass.SAMPLE,
    "stack_collision": LossClass.DETAIL,
    "stack_error": LossClass.DETAIL,
    "nesting": LossClass.EVENT,
    "unobserved_frees_full": LossClass.DETAIL,
    "bulk_too_long": LossClass.EVENT,
    "places": LossClass.FREE,
    "blocks_full": LossClass.SAMPLE,
    "paths_full": LossClass.SAMPLE,
    "block_stacks": LossClass.DETAIL,
    "blocks_replaced": LossClass.DETAIL,
    "block_parts": LossClass.DETAIL,
    EVENTS_FULL: LossClass.DEVICE,
    DRIVER_PROBES_LOST: LossClass.DETAIL,
    "dma_lost": LossClass.DEVICE,
    "dma_replaced": LossClass.DEVICE,
    DEVICE_LEDGER_DISAGREEMENT: LossClass.DEVICE,
    DEVICE_WALK_FAILED: LossClass.DEVICE,
}


def loss_class(reason: str) -> LossClass | None:
    """Return the class of a loss reason, or None if a recording of another version has it."""
    if reason.startswith(_OTHER_RECURSIONS):
        return LossClass.DETAIL
    if reason.startswith(RECURSION_PREFIX):
        return LossClass.EVENT
    return LOSS_CLASSES.get(reason)


def lost_frees(losses: Mapping[str, int], *, kmalloc: bool = False) -> int:
    """Return the number of lost events that may be frees; if `kmalloc`, of objects of kmalloc().

    After such a loss an object that was freed may seem to be alive.
    """
    others = (*_LOST_ALLOCATIONS, _KMEM_CACHE_FREE) if kmalloc else _LOST_ALLOCATIONS
    return sum(
        count
        for reason, count in losses.items()
        if loss_class(reason) in (LossClass.FREE, LossClass.EVENT) and reason not in others
    )
