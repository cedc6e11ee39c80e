# SPDX-License-Identifier: Apache-2.0
"""Opening a tracking session, fast: the compile child starts before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from slabmon.kernel.loading.loader import Compiler
from slabmon.kernel.settings import Settings

if TYPE_CHECKING:
    from slabmon.kernel.tracker import Tracker
    from slabmon.state.continuity import Continuity


@contextmanager
def open_tracker(settings: Settings, continuity: Continuity | None = None) -> Iterator[Tracker]:
    """Compiles, loads and attaches, or adopts what an earlier daemon left; on leaving, nothing of
    it remains but what `continuity` keeps."""
    with ExitStack() as stack:
        early = continuity is None or not continuity.found
        compiler = stack.enter_context(Compiler()) if early else None
        # While the child starts.
        from slabmon.kernel.planning.plan import make_plan
        from slabmon.kernel.probe.cgroups import Cgroups
        from slabmon.kernel.probe.facts import probe
        from slabmon.kernel.symbols.kallsyms import Symbols
        from slabmon.kernel.tracker import Tracker

        cgroups = Cgroups()
        wanted = settings.exact and settings.exact.cgroup
        facts = probe()
        plan = make_plan(facts, settings, cgroups.find(wanted) if wanted else 0)
        programs = continuity.adopt(facts, plan) if continuity else None
        memory = continuity.memory if continuity else None
        if programs is None:
            compiler = compiler or stack.enter_context(Compiler())
            compiler.start(plan)
        known = memory.modules if memory else None
        # While the child compiles.
        symbols = Symbols(history=known)
        if programs is None and compiler is not None:
            programs = compiler.finish()
            compiler.close()
        assert programs is not None
        stack.enter_context(programs)
        tracker = Tracker(facts, plan, programs, symbols, cgroups, continuity)
        stack.callback(tracker.close)
        yield tracker
