# SPDX-License-Identifier: Apache-2.0
"""The kernel's table of stacks: bytes allocated by each stack, and room for new stacks.

bpf_get_stackid() stores a stack where its hash says, for good, and refuses another stack with the
same slot (kernel/bpf/stackmap.c). In the end stacks of interrupts, which come on top of any other,
would fill the table. So stacks without live objects and with few allocated bytes are evicted when
others found no room. Their bytes stay counted, without a stack.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from slabmon.base.arrays import F64, I64, Records, contained, distinct
from slabmon.kernel.bpf import maps
from slabmon.kernel.bpf.layout import STACK_TOTAL
from slabmon.kernel.loading.loader import Programs
from slabmon.kernel.planning.plan import Plan
from slabmon.model import OTHER_STACKS, STACKLESS, Stacked

KEPT = 256  # stacks in a snapshot, those with the most allocated bytes, which are never evicted
KEPT_SHARE = 1 / 16  # of a small table: at most this share is never evicted
EVERY_NS = 30 * 10**9
# An event that looked up its stack's id before the eviction has published its object (the time is
# set last) after this time.
GRACE_NS = 10**9
_UNIT = 1 << 16  # of variances, in bytes squared
_DIGITS = 16  # figures are rounded to this fraction of their standard error


class StackTable:
    """The stack map of one session."""

    def __init__(
        self,
        programs: Programs,
        plan: Plan,
        clear_stacks: Callable[[I64, int], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Read the maps of `programs`.

        `clear_stacks(ids, before_ns)` clears the stack of objects sampled before that time.
        `clock` is CLOCK_MONOTONIC in nanoseconds, as in the records.
        """
        self._maps, self._clear_stacks, self._clock = programs.maps, clear_stacks, clock
        self._frames = plan.settings.stack_frames
        self._count = plan.defines["NR_STACK_IDS"] + 1
        self._evicted: I64 = np.zeros(0, np.int64)
        self._grace_end = self._next = 0
        self._collisions = -1

    def frames(self, stack: int) -> list[int]:
        """Return the addresses of a stack, innermost first; [] if it is not in the table."""
        addresses = np.zeros(self._frames, "<u8")
        if not maps.lookup(self._maps["stacks"], np.array([stack], "<u4"), addresses):
            return []
        return [int(address) for address in addresses if address]

    def _totals(self) -> Records:
        """Map the totals by stack id; the last record is of all allocations without a stack.

        They are mapped for one reading: mapped pages count as this process's memory.
        """
        return maps.map_array(self._maps["stack_totals"], STACK_TOTAL, self._count, writable=True)

    def evict(self, samples: Records, collisions: int) -> I64:
        """Evict cold stacks if others found no room. Return the ids whose meaning changed.

        `samples` are copies of all tracked objects, which lose a stack id that may have passed to
        another stack. `collisions` is the number of stacks without room so far.
        """
        if not self._frames:
            return self._evicted
        now = self._clock()
        changed = self._evicted
        if len(self._evicted):
            ambiguous = contained(samples["stack"], self._evicted)
            ambiguous &= samples["time_ns"] < self._grace_end
            samples["stack"][ambiguous] = STACKLESS
            if now >= self._grace_end:
                self._finish()
        elif collisions != self._collisions and now >= self._next:
            if self._collisions >= 0:
                changed = self._sweep(samples)
            self._collisions, self._next = collisions, now + EVERY_NS
        return changed

    def _sweep(self, samples: Records) -> I64:
        size, kept = self._sizes(), min(KEPT, int(KEPT_SHARE * self._count))
        used = np.flatnonzero(size)
        small = used[np.argsort(size[used], kind="stable")][: max(0, len(used) - kept)]
        self._evicted = distinct(small[~contained(small, samples["stack"])])
        for stack in self._evicted.tolist():
            maps.delete(self._maps["stacks"], np.array([stack], "<u4"))
        self._retire()
        self._grace_end = self._clock() + GRACE_NS
        return self._evicted

    def _finish(self) -> None:
        """No event counts for the evicted stacks any more."""
        self._retire()
        self._clear_stacks(self._evicted, self._grace_end)
        self._evicted = self._evicted[:0]

    def copy_again(self, ids: Sequence[int] | None = None) -> None:
        """Have the next samples of these stacks copied (bpf/stack_copies.h); None: of all."""
        if self._frames:
            self._totals()["samples"][slice(None) if ids is None else list(ids)] = 0

    def _retire(self) -> None:
        totals = self._totals()
        for name in ("bytes", "variance"):
            totals[f"retired_{name}"][self._evicted] = totals[name][self._evicted]
        self.copy_again(self._evicted.tolist())

    def _sizes(self) -> I64:
        """Return allocated bytes by id, of stacks in the table."""
        totals = self._totals()[:-1]
        return np.asarray(totals["bytes"] - totals["retired_bytes"])

    def read(self) -> Stacked:
        """Return allocated bytes of the KEPT largest stacks, and of all others together."""
        if not self._frames:
            return Stacked()
        totals = self._totals().copy()
        # Rows of these arrays: bytes, and their variance in _UNIT.
        present: F64 = np.array(
            [
                totals["bytes"] - totals["retired_bytes"],
                totals["variance"] - totals["retired_variance"],
            ],
            float,
        )
        retired = np.array([totals["retired_bytes"].sum(), totals["retired_variance"].sum()], float)
        stackless, present = present[:, -1], present[:, :-1]
        present[:, self._evicted], evicted = 0, present[:, self._evicted].sum(1)
        size = present[0]
        stack_ids = np.argsort(-size, kind="stable")[:KEPT]
        stack_ids = np.sort(stack_ids[size[stack_ids] > 0])
        remainder = retired + evicted + present.sum(1) - present[:, stack_ids].sum(1)
        size, variance = np.column_stack([remainder, stackless, present[:, stack_ids]])
        error = np.sqrt(variance * _UNIT)
        # No meaningless digits: in a recording they would change each time.
        step = np.exp2(np.floor(np.log2(np.maximum(error / _DIGITS, 1))))
        return Stacked(
            np.concatenate([[OTHER_STACKS, STACKLESS], stack_ids]).astype(np.int32),
            *((np.rint(column / step) * step).astype(np.int64) for column in (size, error)),
        )
