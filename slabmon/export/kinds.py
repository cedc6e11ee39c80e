"""Kinds of rows whose number the host decides: caches, call sites, devices, NUMA nodes.

Their families share one budget of series (slabmon.export.bounds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from slabmon.model import Snapshot


@dataclass(frozen=True)
class Kind:
    """`labels` of its families and `key`, their values for one row. `weight` and `volume` name
    metrics without slabmon_: the rows with the largest weight (of several the largest counts),
    among equals the largest volume, have series of their own."""

    labels: tuple[str, ...]
    rows: Callable[[Snapshot], Sequence[Any]]
    key: Callable[[Any], tuple[str, ...]]
    weight: tuple[str, ...]
    volume: str


KINDS: Mapping[str, Kind] = {
    "cache": Kind(("cache",), attrgetter("caches"), lambda c: (c.name,),
                  ("cache_live_bytes", "cache_slab_bytes"), "cache_allocated_bytes"),
    "site": Kind(("site", "module"), attrgetter("sites"), lambda s: (s.label, s.module or ""),
                 ("site_live_bytes",), "site_allocated_bytes"),
    "device": Kind(("bus", "device", "driver"), attrgetter("devices"),
                   lambda d: (d.bus, d.name, d.driver or ""),
                   ("device_managed_bytes", "device_slab_bytes"), "device_resources_added"),
    "node": Kind(("node",), attrgetter("nodes"), lambda n: (str(n.node),),
                 ("node_allocations",), "node_allocations"),
}  # fmt: skip
