"""Opening a tracking session, fast: the compile child starts before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from slabmon.kernel.loader import Compiler
from slabmon.kernel.settings import Settings

if TYPE_CHECKING:
    from slabmon.kernel.tracker import Tracker


@contextmanager
def open_tracker(settings: Settings) -> Iterator[Tracker]:
    """Compiles, loads and attaches; on leaving, nothing of it remains."""
    with Compiler() as compiler:
        # While the child starts.
        from slabmon.kernel.cgroups import Cgroups
        from slabmon.kernel.facts import probe
        from slabmon.kernel.plan import make_plan
        from slabmon.kernel.symbols import Symbols
        from slabmon.kernel.tracker import Tracker

        cgroups = Cgroups()
        wanted = settings.exact and settings.exact.cgroup
        facts = probe()
        plan = make_plan(facts, settings, cgroups.find(wanted) if wanted else 0)
        compiler.start(plan)
        symbols = Symbols()  # while the child compiles
        programs = compiler.finish()
    with programs:
        tracker = Tracker(facts, plan, programs, symbols, cgroups)
        try:
            yield tracker
        finally:
            tracker.close()
