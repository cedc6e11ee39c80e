# SPDX-License-Identifier: Apache-2.0
"""The row of the overview about allocations that failed."""

from __future__ import annotations

from collections.abc import Iterator

from slabmon.base.format import duration
from slabmon.views.overview.facts import Facts, OverviewRow, State
from slabmon.views.overview.held import FAILURES


def failure_rows(facts: Facts) -> Iterator[OverviewRow]:
    """Yield a row if allocations failed in the window, or since tracking began if there is no
    window. Those with __GFP_NOWARN are expected to fail; of the others the kernel itself warns."""
    window, trail = facts.window, facts.window.trails.get(FAILURES.name)
    listing = window.now.listing(FAILURES)
    counts = listing.values(FAILURES.figure).astype(float)
    period = "since tracking began"
    if trail is not None and trail.points and window.span > 0:
        counts = counts - trail.at(0, listing.keys)
        period = f"in {duration(window.span)}"
    failed, quiet = counts.tolist()
    if failed <= 0:
        return
    state: State | None = State.OK if failed == quiet else State.WARN
    text = f"{int(failed):,} {period}, {int(failed - quiet):,} of them without __GFP_NOWARN"
    if not facts.snapshot.modifiers:  # a recording from before they were counted
        state, text = None, f"{int(failed):,} {period}"
    caches = [cache for cache in facts.snapshot.caches if cache.failed]
    if caches:
        most = max(caches, key=lambda cache: cache.failed)
        text += f"; most since tracking began: {most.name}"
    yield OverviewRow(
        key=("failures", ""),
        what="failed allocations",
        state=state,
        finding=text,
        details=("classes", "modifiers"),
    )
