# SPDX-License-Identifier: Apache-2.0
"""Sentences for and against a finding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from slabmon.base.format import duration
from slabmon.leaks.attribution import Behind, cache_of, share
from slabmon.leaks.dismissals import size
from slabmon.leaks.finding import CACHE, DEVICE, NET, Finding
from slabmon.model import Mode

if TYPE_CHECKING:
    from slabmon.leaks.growth import Case, Grown

_DAY = 86400.0
_MOST = 0.99
_FEW = 30


def favouring(case: Case, found: Grown, finding: Finding, about: Behind) -> tuple[str, ...]:
    """What speaks for a leak."""
    return tuple(_favouring(case, found, finding, about))


def _favouring(case: Case, found: Grown, finding: Finding, about: Behind) -> Iterable[str]:
    steps = np.diff(found.levels)
    yield (
        f"it grew by {size(found.total)} in {duration(finding.window)}, in "
        f"{int((steps > 0).sum())} of {len(steps)} equal parts of that time"
    )
    if found.pace.first:
        steady = found.hours * (len(steps) - found.pace.first) * 3600
        yield f"it has grown at its present pace for {duration(steady)}"
    yield (
        f"the chance of such growth from noise of sampling and demand is {found.p:.0e}, "
        "corrected for the number of series tested"
    )
    if about.samples:
        if finding.kind != DEVICE:
            yield (
                f"of what outlived {duration(found.stretch.age)}, "
                f"{found.turnover:.0%} was freed since"
            )
        yield f"the oldest object of this growth is {duration(about.oldest)} old"
        yield from _lifetimes(case, about)
    if finding.kind == DEVICE:
        yield "managed memory is counted exactly, resource by resource"
    elif case.now.tracking.mode == Mode.EXACT:
        yield "every allocation that the filter lets through is tracked"


def _lifetimes(case: Case, about: Behind) -> Iterable[str]:
    """How long the objects of its main cache live that are freed."""
    cache = case.now.caches[next(iter(about.bytes_by_cache))]
    counts = np.cumsum(cache.lifetimes)
    if not len(counts) or not counts[-1]:
        return
    decade = int(np.searchsorted(counts, _MOST * counts[-1]))
    if decade < len(counts) - 1 and 10.0 ** (decade - 5) < about.oldest:
        yield (
            f"{_MOST:.0%} of the sampled objects of {cache.name} that were freed lived less "
            f"than {duration(10.0 ** (decade - 5))}"
        )


def contrary(case: Case, found: Grown, finding: Finding, about: Behind) -> tuple[str, ...]:
    """What speaks against a leak, without refuting it."""
    return tuple(_contrary(case, found, finding, about))


def _contrary(case: Case, found: Grown, finding: Finding, about: Behind) -> Iterable[str]:
    if finding.window < _DAY:
        yield (
            f"watched for {duration(finding.window)}: a slower warm-up, or a load that rises "
            "and falls with the day, looks the same so far"
        )
    if case.now.tracking.mode != Mode.EXACT and 0 < about.samples < _FEW:
        yield f"estimated from {about.samples} sampled objects"
    part = share(about, case.now, "reclaimable")
    if part:
        yield f"{part:.0%} of it is reclaimable"
    lost = found.stretch.lost[-1] - found.stretch.lost[0]
    if lost:
        yield f"{lost:.0f} events were lost in that time, frees perhaps"
    kind = case.subjects[found.row][0]
    if kind == NET and not cache_of(case.now, about.name).frees_observable:
        yield (
            "not all frees of this cache can be seen; it is judged by the active objects of "
            "/proc/slabinfo, an upper bound"
        )
    elif kind == NET:
        yield "too slow for samples: who allocates is not known; track the cache exactly"
    if finding.kind == CACHE and len(about.sites) > 1:
        yield f"no one call site stands out: {len(about.bytes_by_site)} share it"
