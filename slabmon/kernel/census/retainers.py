# SPDX-License-Identifier: Apache-2.0
"""What may retain objects: devices, for instance."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from slabmon.base.arrays import I64, U64
from slabmon.kernel.census.heap import NONE


def _none() -> I64:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class Retainers:
    """Retainers by number, parents before their children. `parent` is a number, NONE at the top.
    `objects` are numbers in a heap of the objects that they are, each once, and `holder` is the
    retainer of each; `pages` are page frames of their memory outside the heap, in order, and
    `page_holder` is the retainer of each."""

    parent: I64  # (retainers,)
    depth: I64  # (retainers,), 0 at the top
    objects: I64  # (objects,)
    holder: I64  # (objects,) retainer
    pages: I64 = field(default_factory=_none)
    page_holder: I64 = field(default_factory=_none)

    def holders(self, objects: int) -> I64:
        """Return the retainer that each of so many objects is of, NONE for others."""
        holder = np.full(objects, NONE)
        holder[self.objects] = self.holder
        return holder


@dataclass(frozen=True, kw_only=True)
class Named(Retainers):
    """Retainers with a name each."""

    names: tuple[str, ...]


def depths(parent: I64) -> I64:
    """Return how many parents each retainer has. What changes meanwhile may lead in circles: one
    whose parents do not end has none, which is written to `parent`."""
    depth = np.zeros(len(parent), np.int64)
    at = parent
    while (at != NONE).any() and depth.max() < len(parent):
        depth[at != NONE] += 1
        at = np.where(at == NONE, NONE, parent[at])
    endless = at != NONE
    parent[endless], depth[endless] = NONE, 0
    return depth


def in_order(parent: I64, depth: I64) -> tuple[I64, I64]:
    """Return the order in which parents are before their children, and the parents by it."""
    order = np.argsort(depth, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return order, np.where(parent[order] == NONE, NONE, place[parent[order]])


def places(addresses: U64, wanted: U64) -> I64:
    """Return the place of each wanted address among the addresses, which are in order; NONE if it
    is not there."""
    if not len(addresses):
        return np.full(len(wanted), NONE)
    place = np.minimum(np.searchsorted(addresses, wanted), len(addresses) - 1)
    return np.where(addresses[place] == wanted, place, NONE)
