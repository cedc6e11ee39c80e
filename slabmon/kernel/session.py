# SPDX-License-Identifier: Apache-2.0
"""Open a tracking session quickly: the compile child starts before heavy modules are imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from slabmon.kernel.loading.loader import Compiler
from slabmon.kernel.settings import Settings

if TYPE_CHECKING:
    from slabmon.kernel.session_state import Checkpoint
    from slabmon.kernel.tracker import Tracker


@contextmanager
def open_tracker(
    settings: Settings,
    checkpoint: Checkpoint | None = None,
    before_loading: Callable[[], object] = lambda: None,
) -> Iterator[Tracker]:
    """Yield an attached tracker: the session that `checkpoint` kept, else a new one.

    `before_loading` is called while programs are compiled, before any is attached and before what
    `checkpoint` kept is adopted or discarded: its errors cost nothing.

    On exit everything is detached and unloaded, except for what `checkpoint` keeps. Raises
    UnsupportedHost or PermissionDenied if this host cannot be tracked, and UsageError if the
    settings do not fit it.
    """
    with ExitStack() as stack:
        compiler = None
        if checkpoint is None or not checkpoint.found:
            compiler = stack.enter_context(Compiler())
        # Imported while the child starts.
        from slabmon.kernel.exact_target import find_target
        from slabmon.kernel.planning.plan import make_plan
        from slabmon.kernel.probe.cgroups import Cgroups
        from slabmon.kernel.probe.facts import probe
        from slabmon.kernel.symbols.kallsyms import Symbols
        from slabmon.kernel.tracker import Tracker

        facts = probe()
        cgroups = Cgroups(v1=facts.cgroup_v1)
        target = find_target(settings.exact, cgroups)
        plan = make_plan(facts, settings, target)
        if compiler is not None:
            compiler.start(plan)
        before_loading()
        adopted = checkpoint.adopt(facts, plan) if checkpoint else None
        if adopted is not None:
            programs, saved = adopted
            stack.enter_context(programs)
            symbols = Symbols(history=saved.modules)
            tracker = Tracker.resume(
                facts, plan, programs, symbols, cgroups, checkpoint=checkpoint, saved=saved
            )
        else:
            if compiler is None:
                compiler = stack.enter_context(Compiler())
                compiler.start(plan)
            symbols = Symbols()  # read while the child compiles
            programs = stack.enter_context(compiler.finish())
            compiler.close()
            tracker = Tracker.start(
                facts, plan, programs, symbols, cgroups, checkpoint=checkpoint, target=target
            )
        stack.callback(tracker.close)
        yield tracker
