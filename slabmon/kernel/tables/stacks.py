# SPDX-License-Identifier: Apache-2.0
"""Kernel stacks of tracked objects, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from slabmon.kernel.symbols.kallsyms import Location

# bpf_get_stackid() begins with the programs that called it.
_OWN = ("bpf_trace_run", "bpf_trampoline")
_OWN_DEPTH = 4


class Stacks:
    """Reads each stack once: what the kernel has stored under an id it never replaces
    (get_stackid() without BPF_F_REUSE_STACKID) unless it is deleted (stack_table), and reading
    takes it out of the map for a moment (kernel/bpf/stackmap.c, bpf_stackmap_copy())."""

    def __init__(
        self, read: Callable[[int], list[int]], locate: Callable[[int, int], Location]
    ) -> None:
        """`read` gives the return addresses of a stack, innermost first; `locate` what is at an
        address in a generation of modules."""
        self._read, self._locate = read, locate
        self._known: dict[int, tuple[str, ...]] = {}
        self._generation = -1

    def names(self, numbers: Iterable[int], generation: int) -> dict[int, tuple[str, ...]]:
        """Function names of these stacks, innermost first, from the allocator on. Others are
        forgotten."""
        known = self._known if generation == self._generation else {}
        found = {
            number: known.get(number) or self._named(number, generation)
            for number in numbers
            if number >= 0
        }
        self._known, self._generation = found, generation
        return dict(found)

    def forget(self, numbers: np.ndarray) -> None:
        """These numbers stand for other stacks from now on."""
        for number in numbers.tolist():
            self._known.pop(number, None)

    def _named(self, number: int, generation: int) -> tuple[str, ...]:
        frames = [self._locate(address - 1, generation) for address in self._read(number)]
        for depth, frame in reversed(list(enumerate(frames[:_OWN_DEPTH]))):
            if frame.symbol.startswith(_OWN):
                frames = frames[depth + 1 :]
                break
        return tuple(f"{f.symbol} [{f.module}]" if f.module else f.symbol for f in frames)
