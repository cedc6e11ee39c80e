# SPDX-License-Identifier: Apache-2.0
"""The kernel's sampler in Python: exponential_gap() of bpf/sampling.h, integer for integer, and
the countdown of sample_alloc() in bpf/tracking.h."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

LOG2_TABLE = [int(step) for step in np.rint(np.log2(1 + np.arange(1025) / 1024) * (1 << 26))]
U64 = (1 << 64) - 1


def exponential_gap(uniform: int, interval: int) -> int:
    """Return the bytes to the next sample for a uniform 32-bit number."""
    u, exponent = uniform or 1, 31
    for shift in (16, 8, 4, 2, 1):
        if not u >> (32 - shift):
            u <<= shift
            exponent -= shift
    index, fraction = u >> 21 & 1023, u & (1 << 21) - 1
    low = LOG2_TABLE[index]
    log2 = (exponent << 26) + low + ((LOG2_TABLE[index + 1] - low) * fraction >> 21)
    scaled = ((32 << 26) - log2) * interval & U64
    return (scaled >> 26) * 45426 >> 16


class Lane:
    """One CPU's countdown."""

    def __init__(self, interval: int, rng: np.random.Generator) -> None:
        self._interval = interval
        self._rng = rng
        # As Reader.prepare() of slabmon.kernel.tables.lanes starts it.
        self._countdown = int(np.ceil(rng.exponential(interval)))

    def sampled(self, sizes: Iterable[int]) -> list[bool]:
        """Return which of these allocations, in this order, are sampled."""
        chosen = []
        countdown = self._countdown
        for size in sizes:
            countdown -= size
            if countdown > 0:
                chosen.append(False)
                continue
            chosen.append(True)
            countdown = exponential_gap(int(self._rng.integers(1 << 32)), self._interval)
        self._countdown = countdown
        return chosen
