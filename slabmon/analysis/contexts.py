# SPDX-License-Identifier: Apache-2.0
"""What a CPU was doing when it allocated: a task's work, a softirq, or an interrupt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from slabmon.analysis.callers import function_of, main_labels
from slabmon.analysis.sampling import Grouped
from slabmon.base.arrays import I32, I64, U8
from slabmon.model import CONTEXTS, Context, Live, Snapshot

# Entry points of softirqs and interrupts, x86-64 and arm64, 5.10 to 7.3. An exception such as a
# page fault is the process's own.
_ENTRIES = {
    Context.SOFTIRQ: {
        "irq_exit_rcu",
        "__irq_exit_rcu",
        "handle_softirqs",
        "__do_softirq",
        "__softirqentry_text_start",  # another name of __do_softirq in kallsyms, up to 6.9
        "do_softirq",
    },
    Context.IRQ: {
        "asm_common_interrupt",
        "common_interrupt",
        "el1_irq",
        "el0_irq",
        "el1h_64_irq",
        "el0t_64_irq",
        "el1_interrupt",
        "el0_interrupt",
        "gic_handle_irq",
        "handle_domain_irq",
        "generic_handle_domain_irq",
    },
    Context.NMI: {"asm_exc_nmi"},
}
_CONTEXT_OF = {function: context for context, names in _ENTRIES.items() for function in names}
_IRQ_PREFIXES = ("asm_sysvec_", "sysvec_")
_UNKNOWN = CONTEXTS.index(Context.UNKNOWN)


def context_of(frames: Iterable[str]) -> Context:
    """Return what the functions on a stack, innermost first, say that the CPU was doing; a stack
    without frames says nothing."""
    context = Context.UNKNOWN
    for frame in frames:
        # Without what compilers append to the names of clones, as in do_softirq.part.0.
        function = function_of(frame).partition(".")[0]
        if function.startswith(_IRQ_PREFIXES):
            return Context.IRQ
        if function in _CONTEXT_OF:
            return _CONTEXT_OF[function]
        context = Context.TASK
    return context


def with_inferred(contexts: U8, stacks: I32, frames: Mapping[int, Sequence[str]]) -> U8:
    """Return contexts (objects,), those that are not known by the objects' stacks where these are.
    `frames` are the functions of stacks by their ids."""
    rows = np.flatnonzero(contexts == _UNKNOWN)
    if not len(rows):
        return contexts
    numbers, place = np.unique(stacks[rows], return_inverse=True)
    found = [CONTEXTS.index(context_of(frames.get(number, ()))) for number in numbers.tolist()]
    result = contexts.copy()
    result[rows] = np.array(found, np.uint8)[place]
    return result


def main_contexts(snapshot: Snapshot, members: I64, rows: int) -> list[str | None]:
    """Return the context in which most of each row's live memory was allocated, with its share if
    it is not all; None for rows without tracked objects. `members` is the row of each object
    (negative: none)."""
    labels = [context.value for context in CONTEXTS]
    return main_labels(snapshot.tracked, snapshot.tracked.context, labels, members, rows)


def live_by_context(snapshot: Snapshot) -> dict[Context, Live]:
    """Return live memory by what allocated it; where nothing is unknown, without UNKNOWN."""
    tracked = snapshot.tracked
    grouped = Grouped(tracked.bytes, tracked.interval, snapshot.tracking.sample_bytes)
    rows = dict(
        zip(CONTEXTS, grouped.by(tracked.context.astype(np.int64), len(CONTEXTS)), strict=True)
    )
    if not rows[Context.UNKNOWN].objects:
        del rows[Context.UNKNOWN]
    return rows
