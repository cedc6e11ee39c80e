# SPDX-License-Identifier: Apache-2.0
"""Memory that drivers allocate for DMA, by device (bpf/dma.h)."""

from __future__ import annotations

from collections.abc import Mapping

from slabmon.kernel.planning.part import Part
from slabmon.kernel.probe.facts import Facts
from slabmon.kernel.settings import Settings
from slabmon.model import FeatureState, State

# How the arguments of each event begin. Of those behind, 3afff779a725 "dma-mapping: trace more
# error paths" and others (6.13) changed some.
_ADDRESSED = ("struct device *", "void *", "dma_addr_t", "size_t")
_SCATTERED = ("struct device *", "struct sg_table *", "size_t")
_EVENTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "dma": {"dma_alloc": _ADDRESSED, "dma_free": _ADDRESSED},
    "dma_pages": {
        "dma_alloc_pages": _ADDRESSED,
        "dma_free_pages": _ADDRESSED,
        "dma_alloc_sgt": _SCATTERED,
        "dma_alloc_sgt_err": _ADDRESSED,
        "dma_free_sgt": _SCATTERED,
    },
}
DMA_FEATURES = tuple(_EVENTS)
_RELEASES = {"dma": "6.12+", "dma_pages": "6.13+"}
_OFFSETS = ("OFF_DMA_MEM", "OFF_DMA_MEM_BASE", "OFF_DMA_MEM_PAGES")
# Pieces of memory that are known at a time: this share of the number of slab objects.
_BLOCK_SHARE = 8


def plan_dma(facts: Facts, settings: Settings) -> Part:
    """Plan the events of DMA memory, and to tell apart what platforms reserve for a device."""
    features = {name: _feature(facts, name) for name in _EVENTS}
    reserved = facts.offsets.keys() >= set(_OFFSETS)
    return Part(
        features=features,
        defines={
            "HAVE_DMA": int(features["dma"].state == State.ON),
            "HAVE_DMA_PAGES": int(features["dma_pages"].state == State.ON),
            "NR_DMA_BLOCKS": settings.samples // _BLOCK_SHARE,
            **{name: facts.offsets[name] if reserved else 0 for name in _OFFSETS},
        },
    )


def _feature(facts: Facts, name: str) -> FeatureState:
    """Return whether the kernel has the events of a feature and, for others than dma, those too."""
    for feature in dict.fromkeys(("dma", name)):
        for event, first in _EVENTS[feature].items():
            arguments = facts.prototypes.get(event)
            if arguments is None:
                reason = f"this kernel has no tracepoint {event} ({_RELEASES[feature]})"
                return FeatureState(State.OFF, reason)
            if arguments[: len(first)] != first:
                reason = f"tracepoint {event}: expected {_list(first)}, ..., got {_list(arguments)}"
                return FeatureState(State.OFF, reason)
    return FeatureState(State.ON)


def _list(arguments: tuple[str, ...]) -> str:
    return f"arguments {', '.join(arguments)}"
