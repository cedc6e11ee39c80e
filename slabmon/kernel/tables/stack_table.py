# SPDX-License-Identifier: Apache-2.0
"""The kernel's table of stacks: what was allocated by each, and room for new ones.

bpf_get_stackid() keeps a stack where its hash says, for good, and refuses another that belongs
there (kernel/bpf/stackmap.c). In the end interrupts, which come on top of anything, would fill the
table. So stacks that no live object has, and of which little was allocated, are taken out when
others found no room; what was allocated by them is counted on, without a stack.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from slabmon.kernel.bpf import maps
from slabmon.kernel.bpf.layout import STACK_TOTAL
from slabmon.kernel.loading.loader import Programs
from slabmon.kernel.planning.plan import Plan
from slabmon.model import OTHER_STACKS, STACKLESS, Stacked

KEPT = 256  # stacks of a snapshot, those of which most was allocated, which always stay
STAYING = 1 / 16  # of a small table: no more stay
EVERY_NS = 30 * 10**9
# An event that had its stack's number before that was given up is done with it, and the object
# published (its time is set last), after so long.
GRACE_NS = 10**9
_UNIT = 1 << 16  # of squares, in bytes squared
_DIGITS = 16  # steps of a standard error that figures are rounded to


class StackTable:
    """One session's. `take` makes objects that were tracked before a time stackless, of these
    numbers; `clock` is CLOCK_MONOTONIC in nanoseconds, as in the records."""

    def __init__(
        self,
        programs: Programs,
        plan: Plan,
        take: Callable[[np.ndarray, int], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._maps, self._take, self._clock = programs.maps, take, clock
        self._frames = plan.settings.stack_frames
        self._count = plan.defines["NR_STACK_IDS"] + 1
        self._leaving = np.zeros(0, np.int64)
        self._until = self._next = 0
        self._collisions = -1

    def frames(self, number: int) -> list[int]:
        """Return addresses of a stack, innermost first; [] when it is not there."""
        found = np.zeros(self._frames, "<u8")
        if not maps.lookup(self._maps["stacks"], np.array([number], "<u4"), found):
            return []
        return [int(frame) for frame in found if frame]

    def _totals(self) -> np.ndarray:
        """By number; the last are all without a stack. Mapped for this reading only, as the pool
        is. What is past can be written."""
        return maps.map_array(self._maps["stack_totals"], STACK_TOTAL, self._count, writable=True)

    def tend(self, samples: np.ndarray, collisions: int) -> np.ndarray:
        """Looks after the table. `samples` are all tracked objects, a copy, of which some lose
        their stack: the number may have passed to another; `collisions` how many found no room so
        far. Returns the numbers that stand for other stacks from now on than they did."""
        if not self._frames:
            return self._leaving
        now = self._clock()
        changed = self._leaving
        if len(self._leaving):
            doubtful = np.isin(samples["stack"], self._leaving) & (samples["time_ns"] < self._until)
            samples["stack"][doubtful] = STACKLESS
            if now >= self._until:
                self._settle()
        elif collisions != self._collisions and now >= self._next:
            if self._collisions >= 0:
                changed = self._sweep(samples)
            self._collisions, self._next = collisions, now + EVERY_NS
        return changed

    def _sweep(self, samples: np.ndarray) -> np.ndarray:
        size, staying = self._sizes(), min(KEPT, int(STAYING * self._count))
        used = np.flatnonzero(size)
        small = used[np.argsort(size[used], kind="stable")][: max(0, len(used) - staying)]
        self._leaving = np.setdiff1d(small, samples["stack"])
        for number in self._leaving.tolist():
            maps.delete(self._maps["stacks"], np.array([number], "<u4"))
        self._close()
        self._until = self._clock() + GRACE_NS
        return self._leaving

    def _settle(self) -> None:
        """No event counts for what was taken out any more."""
        self._close()
        self._take(self._leaving, self._until)
        self._leaving = self._leaving[:0]

    def _close(self) -> None:
        totals = self._totals()
        for name in ("bytes", "variance"):
            totals[f"retired_{name}"][self._leaving] = totals[name][self._leaving]

    def _sizes(self) -> np.ndarray:
        """Bytes by number, of stacks that are there."""
        totals = self._totals()[:-1]
        return np.asarray(totals["bytes"] - totals["retired_bytes"])

    def read(self) -> Stacked:
        """What was allocated, by the largest of the stacks; the others together."""
        if not self._frames:
            return Stacked()
        totals = self._totals().copy()
        now = np.array(
            [
                totals["bytes"] - totals["retired_bytes"],
                totals["variance"] - totals["retired_variance"],
            ],
            float,
        )
        past = np.array([totals["retired_bytes"].sum(), totals["retired_variance"].sum()], float)
        without, now = now[:, -1], now[:, :-1]
        now[:, self._leaving], moved = 0, now[:, self._leaving].sum(1)
        size = now[0]
        kept = np.argsort(-size, kind="stable")[:KEPT]
        kept = np.sort(kept[size[kept] > 0])
        others = past + moved + now.sum(1) - now[:, kept].sum(1)
        size, squares = np.column_stack([others, without, now[:, kept]])
        error = np.sqrt(squares * _UNIT)
        # No digits that mean nothing: in a recording they would change each time.
        step = np.exp2(np.floor(np.log2(np.maximum(error / _DIGITS, 1))))
        return Stacked(
            np.concatenate([[OTHER_STACKS, STACKLESS], kept]).astype(np.int32),
            *((np.rint(column / step) * step).astype(np.int64) for column in (size, error)),
        )
