# SPDX-License-Identifier: Apache-2.0
"""What some objects retain, such as devices: other objects to which nothing leads but they.

The graph of references is cut at these retainers. What is still reached from the kernel's memory is
not theirs alone. A retainer is a node whose only predecessor is its parent: it dominates (Prosser,
1959) those of the other objects that are reached from it, or from those below it, and from nowhere
else. A stack does not count as a place they are reached from: who has a pointer there borrows what
it points to, or has borrowed it once, if anything else leads to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, Bool, distinct
from slabmon.kernel.census.heap import NONE
from slabmon.kernel.census.reach import Tracer
from slabmon.kernel.census.retainers import Retainers

_TOP, _UNKNOWN = 0, -1


@dataclass(frozen=True, kw_only=True)
class Held:
    """Numbers of objects in a heap, and the deepest retainer that dominates each; NONE for what
    several hold that have no parent in common."""

    objects: I64  # (objects,)
    holder: I64  # (objects,)


def follow(tracer: Tracer, reached: Bool, retainers: Retainers) -> Held:
    """Mark as reached what the reached objects, the retainers and stacks lead to, and return what
    only retainers, or only they and stacks, lead to. The tracer has searched the memory outside the
    heap."""
    heap = tracer.heap
    holder = retainers.holders(len(heap))
    tracer.follow(reached, heap.in_use, closed=holder != NONE)
    reached[retainers.objects] = True
    unreached = heap.in_use & ~reached
    of_pages, to = tracer.of_retainers
    of_pages, to = of_pages[unreached[to]], to[unreached[to]]
    sources, targets = tracer.references_among(
        unreached, np.concatenate([retainers.objects, distinct(to)])
    )
    objects = distinct(np.concatenate([targets, to]))
    reached[objects] = True
    tracer.follow_stacks(reached, heap.in_use)
    direct = holder[sources] != NONE
    first = np.concatenate([holder[sources[direct]], of_pages])
    first_to = np.searchsorted(objects, np.concatenate([targets[direct], to]))
    between = [np.searchsorted(objects, each[~direct]) for each in (sources, targets)]
    dominators = Dominators(retainers, len(objects))
    dominators.follow(first, first_to, *between)
    return Held(
        objects=np.concatenate([retainers.objects, objects]),
        holder=np.concatenate([retainers.holder, dominators.holder]),
    )


class Dominators:
    """The dominators of objects among retainers, in a tree whose top is none: as labels of objects,
    which only ever move towards the top."""

    def __init__(self, retainers: Retainers, objects: int) -> None:
        self._parent = np.concatenate([[_TOP], retainers.parent + 1])
        self._depth = np.concatenate([[0], retainers.depth + 1])
        self._label = np.full(objects, _UNKNOWN)
        self._place = np.zeros(objects, np.int64)

    @property
    def holder(self) -> I64:
        """The number of the retainer that dominates each object, NONE if none does."""
        return self._label - 1

    def follow(self, retainers: I64, first: I64, sources: I64, targets: I64) -> None:
        """Take over the references of retainers to objects, then those between objects until
        nothing changes."""
        order = np.argsort(sources, kind="stable")
        targets = targets[order]
        starts = np.searchsorted(sources[order], np.arange(len(self._label) + 1))
        fresh = self._take(first, retainers + 1)
        while len(fresh):
            counts = starts[fresh + 1] - starts[fresh]
            place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            at = np.repeat(starts[fresh], counts) + place
            fresh = self._take(targets[at], np.repeat(self._label[fresh], counts))

    def _take(self, objects: I64, labels: I64) -> I64:
        """Join these labels with those of the objects; return the objects whose label changed."""
        changed = [np.zeros(0, np.int64)]
        while True:
            now = self._label[objects]
            joined = np.where(now == _UNKNOWN, labels, self._common(np.maximum(now, 0), labels))
            differ = joined != now
            objects, labels, joined = objects[differ], labels[differ], joined[differ]
            if not len(objects):
                return distinct(np.concatenate(changed))
            numbers = np.arange(len(objects))
            self._place[objects] = numbers
            once = self._place[objects] == numbers
            self._label[objects[once]] = joined[once]
            changed.append(objects[once])

    def _common(self, one: I64, other: I64) -> I64:
        """Return the deepest retainer that both are or are below of, of each pair."""
        while (one != other).any():
            higher = self._depth[one] - self._depth[other]
            differ = one != other
            one, other = (
                np.where(differ & (higher >= 0), self._parent[one], one),
                np.where(differ & (higher <= 0), self._parent[other], other),
            )
        return one
