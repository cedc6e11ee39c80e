# SPDX-License-Identifier: Apache-2.0
"""What devices hold: objects to which nothing leads but devices.

The graph of references is cut at the objects that devices are in, and at their drivers' data. What
is still reached from the kernel's memory is not theirs alone. A device is a node whose only
predecessor is its parent: it dominates (Prosser, 1959) those of the other objects that are reached
from it, or from devices below it, and from nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slabmon.base.arrays import I64, Bool, distinct
from slabmon.kernel.census.devices import Devices
from slabmon.kernel.census.heap import NONE
from slabmon.kernel.census.reach import Tracer

_TOP, _UNKNOWN = 0, -1


@dataclass(frozen=True, kw_only=True)
class Held:
    """Numbers of objects in a heap, and the deepest device that dominates each; NONE for what
    several devices hold that have no parent in common."""

    objects: I64  # (objects,)
    device: I64  # (objects,)


def follow(tracer: Tracer, reached: Bool, devices: Devices) -> Held:
    """Mark as reached what the reached objects and the devices lead to, and return what only
    devices lead to."""
    heap = tracer.heap
    holder = np.full(len(heap), NONE)
    holder[devices.objects] = devices.holder
    tracer.follow(reached, heap.in_use, closed=holder != NONE)
    reached[devices.objects] = True
    unreached = heap.in_use & ~reached
    sources, targets = tracer.references_among(unreached, devices.objects)
    objects = distinct(targets)
    reached[objects] = True
    of_device = holder[sources] != NONE
    devices_to = holder[sources[of_device]], np.searchsorted(objects, targets[of_device])
    between = [np.searchsorted(objects, each[~of_device]) for each in (sources, targets)]
    dominators = _Dominators(devices, len(objects))
    dominators.follow(*devices_to, *between)
    return Held(
        objects=np.concatenate([devices.objects, objects]),
        device=np.concatenate([devices.holder, dominators.device]),
    )


class _Dominators:
    """The dominators of objects among devices, in a tree whose top is none: as labels of objects,
    which only ever move towards the top."""

    def __init__(self, devices: Devices, objects: int) -> None:
        self._parent = np.concatenate([[_TOP], devices.parent + 1])
        self._depth = np.concatenate([[0], devices.depth + 1])
        self._label = np.full(objects, _UNKNOWN)
        self._place = np.zeros(objects, np.int64)

    @property
    def device(self) -> I64:
        """The number of the device that dominates each object, NONE if none does."""
        return self._label - 1

    def follow(self, devices: I64, first: I64, sources: I64, targets: I64) -> None:
        """Take over the references of devices to objects, then those between objects until
        nothing changes."""
        order = np.argsort(sources, kind="stable")
        targets = targets[order]
        starts = np.searchsorted(sources[order], np.arange(len(self._label) + 1))
        fresh = self._take(first, devices + 1)
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
        """Return the deepest device that both are or are below of, of each pair."""
        while (one != other).any():
            higher = self._depth[one] - self._depth[other]
            differ = one != other
            one, other = (
                np.where(differ & (higher >= 0), self._parent[one], one),
                np.where(differ & (higher <= 0), self._parent[other], other),
            )
        return one
