# SPDX-License-Identifier: Apache-2.0
"""Names of the functions on the kernel stacks of tracked objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from slabmon.base.arrays import I64
from slabmon.kernel.symbols.kallsyms import Location

# Stacks of bpf_get_stackid() and bpf_get_stack() begin with the program that called it.
_PROGRAM_FRAMES = ("bpf_trace_run", "bpf_trampoline")
_PROGRAM_DEPTH = 4


def without_program(frames: list[Location]) -> list[Location]:
    """Return the frames of a stack, innermost first, without those of the program that took it."""
    for depth, frame in reversed(list(enumerate(frames[:_PROGRAM_DEPTH]))):
        if frame.symbol.startswith(_PROGRAM_FRAMES):
            return frames[depth + 1 :]
    return frames


class StackNames:
    """Reads each stack once.

    The kernel never replaces the stack of an id (get_stackid() without BPF_F_REUSE_STACKID) unless
    it is deleted (stack_table.py), and reading takes it out of the map for a moment
    (kernel/bpf/stackmap.c, bpf_stackmap_copy()).
    """

    def __init__(
        self, read: Callable[[int], list[int]], locate: Callable[[int, int], Location]
    ) -> None:
        """Use `read(stack)` for the addresses of a stack, innermost first, and
        `locate(address, generation)` for their locations."""
        self._read, self._locate = read, locate
        self._known: dict[int, tuple[str, ...]] = {}
        self._located: dict[int, Location] = {}  # frames by address, in this generation
        self._generation = -1

    def names(self, ids: Iterable[int], generation: int) -> dict[int, tuple[str, ...]]:
        """Return the functions of these stacks by id, innermost first, from the allocator on.

        Negative ids are skipped. Stacks of other ids are forgotten.
        """
        self._follow(generation)
        self._known = {
            stack: self._known.get(stack) or self._resolve(stack) for stack in ids if stack >= 0
        }
        return dict(self._known)

    def modules(self, stack: int, generation: int) -> set[str]:
        """Return the modules of the functions on a stack."""
        self._follow(generation)
        return {frame.module for frame in self._frames(stack) if frame.module}

    def forget(self, ids: I64) -> None:
        """Forget stacks whose ids the kernel may give to others."""
        for stack in ids.tolist():
            self._known.pop(stack, None)

    def clear(self) -> None:
        """Forget all stacks: the same addresses may have other names now."""
        self._known, self._located = {}, {}

    def _follow(self, generation: int) -> None:
        if generation != self._generation:
            self.clear()
            self._generation = generation

    def _frames(self, stack: int) -> list[Location]:
        frames = []
        for address in self._read(stack):
            frame = self._located.get(address)
            if frame is None:
                frame = self._located[address] = self._locate(address - 1, self._generation)
            frames.append(frame)
        return frames

    def _resolve(self, stack: int) -> tuple[str, ...]:
        frames = without_program(self._frames(stack))
        return tuple(f"{f.symbol} [{f.module}]" if f.module else f.symbol for f in frames)
