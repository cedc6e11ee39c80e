# SPDX-License-Identifier: Apache-2.0
"""The rows of the overview, from the conclusion to the cost of slabmon itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from slabmon.base.activity import Activity
from slabmon.base.format import bytes_text, duration
from slabmon.census.model import CgroupState
from slabmon.leaks.finding import Kind
from slabmon.memory.ledger import KERNEL_PAGES
from slabmon.model import BUDGET
from slabmon.views.memory import MEMORY, UNACCOUNTED
from slabmon.views.overview.caches import CACHE_DETAILS, cache_rows
from slabmon.views.overview.devices import device_rows
from slabmon.views.overview.facts import (
    EXHAUSTED_SHARE,
    FREE,
    KERNEL,
    LARGE_SHARE,
    PAGE_CACHE,
    RECLAIMABLE,
    RISE_SECONDS,
    SHORT_SHARE,
    SLAB,
    VERY_SOON_SECONDS,
    Facts,
    OverviewRow,
    State,
    worst,
)
from slabmon.views.overview.failures import failure_rows
from slabmon.views.summary import summarize
from slabmon.views.verdict_notes import without_suspects

if TYPE_CHECKING:
    from slabmon.leaks.finding import Finding
    from slabmon.views.window import Window

UNACCOUNTED_SHARE = 0.02
LOST_SHARE = 0.001  # of allocations
LOST_EVENTS = 50  # fewer change no figure, whatever their share of the first allocations
CPU_SHARE = 0.01  # of all CPUs
ORPHAN_BYTES = REMOVED_BYTES = 16 << 20
_SUSPECTS, _NAMES, _PARTS = 3, 3, 2


class _Group(NamedTuple):
    key: str
    title: str
    details: tuple[str, ...]


_GROUPS = (
    _Group(SLAB, "slab, unreclaimable", ("caches", "kernel memory")),
    _Group(RECLAIMABLE, "slab, reclaimable", ("caches", "kernel memory")),
    _Group(KERNEL, "other kernel memory", ("kernel memory", "all memory")),
    _Group("user", "processes", ("memory of this kind", "all memory")),
    _Group(PAGE_CACHE, "page cache", ("memory of this kind", "all memory")),
    _Group(FREE, "free", ("memory of this kind", "all memory")),
    _Group("reserved", "reserved", ("memory of this kind", "all memory")),
    _Group(UNACCOUNTED, "unaccounted", ("all memory",)),
)


def rows(window: Window) -> tuple[OverviewRow, ...]:
    """Return the rows at the end of a window, the conclusion first."""
    facts = Facts(window)
    parts = (
        *_leaks(facts),
        *failure_rows(facts),
        *_orphans(facts),
        *_removed_cgroups(facts),
        *_ledger(facts),
        *device_rows(facts),
        _losses(facts),
        _cost(facts),
    )
    return (_conclusion(facts, parts), *parts)


def problems(rows: Sequence[OverviewRow]) -> list[OverviewRow]:
    """Return the rows that need attention, the worst first: without that of all slabs if there is
    one of a cache, and without a cache if a finding explains most of its memory."""
    bad = [row for row in rows if row.state in (State.WARN, State.CRIT) and row.key[0] != "host"]
    if any(row.cache for row in bad):
        bad = [row for row in bad if row.key != ("memory", SLAB)]
    suspected = {row.cache: row.bytes or 0 for row in bad if row.key[0] in ("exhaustion", "leak")}
    bad = [
        row
        for row in bad
        if row.key[0] != "cache" or (row.bytes or 0) > 2 * suspected.get(row.cache, 0)
    ]
    return sorted(bad, key=lambda row: row.state != State.CRIT)


def _conclusion(facts: Facts, parts: Sequence[OverviewRow]) -> OverviewRow:
    bad = problems(parts)
    state: State | None = None
    if not facts.groups and not any(row.cache for row in parts):
        finding = "memory and slabs could not be read"
    elif facts.window.span < RISE_SECONDS:
        watched, needed = duration(facts.window.span), duration(RISE_SECONDS)
        finding = f"nothing wrong so far; growth: watched {watched} of {needed}"
    else:
        state, finding = State.OK, "nothing wrong"
    if bad:
        state = bad[0].state
        names = list(dict.fromkeys(row.what for row in bad))
        more = f" +{len(names) - _NAMES}" if len(names) > _NAMES else ""
        finding = f"see {', '.join(names[:_NAMES])}{more}"
    return OverviewRow(
        key=("host", ""),
        what="this host",
        state=state,
        bytes=facts.total or None,
        total_bytes=facts.total or None,
        finding=finding,
        details=("all memory",),
    )


def _leaks(facts: Facts) -> Iterator[OverviewRow]:
    """Yield the suspects, or one row that says why there are none."""
    assessment = facts.window.now.assessment
    for finding in assessment.exhausting[:_SUSPECTS] if assessment else ():
        yield from _exhausting(facts, finding)
    verdicts = assessment.verdicts if assessment else ()
    for finding in verdicts[:_SUSPECTS]:
        yield _leak(facts, finding)
    state: State | None = None
    text = without_suspects(assessment)
    if verdicts:
        if len(verdicts) <= _SUSPECTS:
            return
        state, text = State.WARN, f"{len(verdicts) - _SUSPECTS} more suspects"
    elif assessment is not None and assessment.activity == Activity.ASLEEP:
        state = State.OK
    elif assessment is not None and assessment.activity == Activity.AWAKE:
        if assessment.ready:
            state = State.OK
        elif assessment.exhausting:
            return  # that it is too early for verdicts would contradict these
    yield OverviewRow(
        key=("leaks", ""), what="leaks", state=state, finding=text, details=("verdicts",)
    )


def _exhausting(facts: Facts, finding: Finding) -> Iterator[OverviewRow]:
    end = finding.exhaustion
    if end is None:
        return
    names = [cache.name for cache in facts.snapshot.caches]
    is_shown = finding.kind == Kind.CACHE and finding.name in names
    holder = facts.holder(names.index(finding.name)) if is_shown else ""
    by = holder or _behind(finding)
    text, *bounds = map(duration, (end.seconds, end.earliest, end.latest))
    interval = f" ({' to '.join(bounds)})" if {*bounds} != {text} else ""
    text = f"out of memory in {text}{interval}" + (f", by {by}" if by else "")
    yield _suspect(facts, "exhaustion", finding, end.seconds, text)


def _leak(facts: Facts, finding: Finding) -> OverviewRow:
    left = None
    if facts.available is not None:
        left = finding.seconds_to(finding.live + facts.available)
    by = _behind(finding)
    text = f"{finding.strength} leak, +{bytes_text(finding.growth)}/h" + (f" by {by}" if by else "")
    return _suspect(facts, "leak", finding, left, text)


def _behind(finding: Finding) -> str:
    return "; ".join(filter(None, (finding.caller_text, finding.behind)))


def _suspect(
    facts: Facts, key: str, finding: Finding, left: float | None, text: str
) -> OverviewRow:
    """Return the row of a finding whose growth uses up memory in `left` seconds, None: never."""
    is_cache, is_site = finding.kind == Kind.CACHE, finding.kind == Kind.SITE
    links = CACHE_DETAILS if is_cache else ("stacks of the site",) if is_site else ()
    return OverviewRow(
        key=(key, f"{finding.kind} {finding.name}"),
        what=finding.name,
        state=State.CRIT if left is not None and left <= VERY_SOON_SECONDS else State.WARN,
        bytes=round(finding.live),
        total_bytes=facts.total or None,
        growth=round(finding.growth),
        finding=text,
        cache=finding.name if is_cache else "",
        site=finding.name if is_site else "",
        details=("verdicts", *links),
    )


def _orphans(facts: Facts) -> Iterator[OverviewRow]:
    census = facts.snapshot.census
    if census is None or not census.orphans:
        return
    size = sum(row.bytes for row in census.orphans)
    most = max(census.orphans, key=lambda row: row.bytes)
    yield OverviewRow(
        key=("orphans", ""),
        what="orphans",
        state=State.WARN if size >= ORPHAN_BYTES else State.OK,
        bytes=size,
        total_bytes=facts.total or None,
        finding=f"nothing refers to them; most: {most.signature} in {most.cache}",
        details=("orphans",),
    )


def _removed_cgroups(facts: Facts) -> Iterator[OverviewRow]:
    census = facts.snapshot.census
    dying = [row for row in census.cgroups if row.state == CgroupState.DYING] if census else []
    size = sum(row.bytes for row in dying)
    if size < REMOVED_BYTES:
        return
    most = max(dying, key=lambda row: row.bytes)
    yield OverviewRow(
        key=("cgroups", "removed"),
        what="removed cgroups",
        state=State.WARN if facts.is_large(size) else State.OK,
        bytes=size,
        total_bytes=facts.total or None,
        finding=f"{sum(row.cgroups for row in dying):,} still hold objects; most: "
        f"{facts.snapshot.workload(most.cgroup).label} {bytes_text(most.bytes)}",
        details=("charged",),
    )


def _ledger(facts: Facts) -> Iterator[OverviewRow]:
    """Yield the rows of the ledger, which add up to all memory, with caches below those of slab."""
    caches = list(cache_rows(facts))
    for group in _GROUPS:
        if group.key in facts.groups:
            yield _group(facts, group)
        if group.key in (SLAB, RECLAIMABLE):
            yield from (row for row in caches if row.reclaimable == (group.key == RECLAIMABLE))


def _group(facts: Facts, group: _Group) -> OverviewRow:
    size = facts.size(group.key)
    names = [row.name for row in facts.groups[group.key]]
    # A census names pages that were unaccounted until then; both together grow or do not.
    if group.key == KERNEL:
        names = [name for name in names if name != KERNEL_PAGES]
    elif group.key == UNACCOUNTED:
        names += [row.name for row in facts.groups.get(KERNEL, ()) if row.name == KERNEL_PAGES]
    rise = facts.rise(MEMORY, names)
    grows = group.key in (SLAB, KERNEL, UNACCOUNTED)
    state: State | None = facts.pace(rise) if grows else State.OK
    text = [facts.pace_text(rise)] if grows else []
    if group.key in (SLAB, KERNEL) and facts.is_large(size):
        state = worst(facts.pace(rise), State.WARN)
        text.append(f"more than {LARGE_SHARE:.0%} of memory")
    elif group.key == UNACCOUNTED and size > UNACCOUNTED_SHARE * facts.total:
        if facts.scanned:
            state = worst(facts.pace(rise), State.WARN)
        elif state == State.OK:
            state = None  # a census may identify it
    elif group.key == FREE:
        state = _supply(facts)
    return OverviewRow(
        key=("memory", group.key),
        what=group.title,
        state=state,
        bytes=size,
        total_bytes=facts.total,
        growth=rise.per_hour if rise else None,
        finding="; ".join(filter(None, (*text, _about(facts, group.key)))),
        kind=facts.groups[group.key][0].kind,
        reclaimable=group.key == RECLAIMABLE,
        details=group.details,
    )


def _supply(facts: Facts) -> State:
    share = (facts.available or 0) / facts.total
    if share >= SHORT_SHARE:
        return State.OK
    return State.WARN if share >= EXHAUSTED_SHARE else State.CRIT


def _about(facts: Facts, group: str) -> str:
    """Return what a row of the ledger means, or consists of."""
    if group == SLAB:
        large = [row for row in facts.groups[group] if row.name != SLAB and row.bytes > 0]
        return ", ".join(f"{row.title} {bytes_text(row.bytes)}" for row in large)
    if group in (RECLAIMABLE, PAGE_CACHE):
        return "reclaimed when memory is short"
    if group == FREE:
        return f"{bytes_text(facts.available or 0)} free or reclaimable"
    if group == UNACCOUNTED:
        return "no counter names it" + ("" if facts.scanned else "; a census may")
    largest = sorted(facts.groups[group], key=lambda row: -row.bytes)[:_PARTS]
    return ", ".join(f"{row.title} {bytes_text(row.bytes)}" for row in largest)


def _losses(facts: Facts) -> OverviewRow:
    summary = summarize(facts.window)
    events = sum(cache.allocs for cache in facts.snapshot.caches)
    text = "none"
    if summary.lost:
        share = f" ({summary.lost / events:.2%} of allocations)" if events else ""
        reasons = ", ".join(reason for reason, _ in summary.losses[:_PARTS])
        text = f"{summary.lost:,}{share}: {reasons}"
    many = summary.lost >= LOST_EVENTS and summary.lost > LOST_SHARE * events
    return OverviewRow(
        key=("losses", ""),
        what="lost events",
        state=State.WARN if many else State.OK,
        finding=text,
        details=("losses", "features"),
    )


def _cost(facts: Facts) -> OverviewRow:
    summary = summarize(facts.window)
    state: State | None = None
    text = "not measured: BPF statistics are off"
    if not facts.awake:
        state, text = State.OK, f"none per event: tracking is {facts.snapshot.tracking.activity}"
    elif summary.event_seconds is not None and summary.cpu_ratio is not None:
        busy = summary.cpu_ratio / max(1, facts.snapshot.host.cpus)
        state = State.OK if busy <= CPU_SHARE else State.WARN
        text = f"BPF {duration(summary.event_seconds)}/event, {summary.cpu_ratio:.1%} of a CPU"
    if facts.snapshot.census is not None:
        text += f"; census {duration(facts.snapshot.census.cpu_seconds)} of CPU time"
    if BUDGET in facts.snapshot.features:
        text += f"; budget {facts.snapshot.features[BUDGET].reason}"
    return OverviewRow(
        key=("cost", ""),
        what="cost of slabmon",
        state=state,
        finding=text,
        details=("programs", "features"),
    )
