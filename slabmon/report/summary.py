# SPDX-License-Identifier: Apache-2.0
"""The summary of a report in words: its findings, how accurate they are, and their limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from slabmon.analysis.contexts import live_by_context
from slabmon.analysis.delta import difference
from slabmon.analysis.paths import Paths
from slabmon.analysis.sampling import Grouped
from slabmon.base.activity import Activity
from slabmon.base.format import duration, human
from slabmon.base.units import BYTES
from slabmon.model import Cache, Context, Live, Snapshot
from slabmon.report.selection import GROWING, ReportPeriod
from slabmon.views.catalogue import VIEWS
from slabmon.views.table import Table
from slabmon.views.window import Window

_MOST = 3
_INTERRUPTS = {Context.SOFTIRQ: "softirqs", Context.IRQ: "hard interrupts", Context.NMI: "NMIs"}
# Growth below this many standard errors cannot be distinguished from sampling error.
_SIGNIFICANT = 2.0


class Sentence(NamedTuple):
    """A sentence and the topic it belongs to."""

    topic: str
    text: str


def size(value: float) -> str:
    """Format bytes."""
    return human(round(value), BYTES)


def signed(value: float) -> str:
    """Format a change in bytes, with its sign."""
    return ("+" if value > 0 else "") + size(value)


def count(number: int, one: str, many: str = "") -> str:
    """Format a count: 1 device, 5 devices."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(parts: Sequence[str], limit: int = _MOST) -> str:
    """Join names: a, b and c; beyond `limit`: a, b, c and 4 others."""
    shown = list(parts[:limit])
    if len(parts) > limit:
        shown.append(count(len(parts) - limit, "other"))
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def all_names(cache: Cache) -> str:
    """Return the name of a cache, and those of the caches merged with it."""
    return f"{cache.name} (also {listed(cache.aliases)})" if cache.aliases else cache.name


def summary(period: ReportPeriod, change: Paths | None) -> list[Sentence]:
    """Return all sentences about a report. `change` holds the change of live memory if the report
    compares two moments."""
    now = period.now.snapshot
    sentences = [*slab_memory(now), *live_memory(now), *device_memory(now)]
    if period.before is not None and change is not None:
        sentences += changes(period.before.snapshot, now, change)
    sentences += growth(period)
    sentences += [counters(now), sampling(now), *losses(now), *unseen(now), *features(now)]
    return sentences


def slab_memory(snapshot: Snapshot) -> Iterable[Sentence]:
    """Say how much memory all slabs of the host take."""
    rows = [
        (cache.slabinfo.slab_bytes, all_names(cache)) for cache in snapshot.caches if cache.slabinfo
    ]
    if not rows:
        yield Sentence(
            "memory",
            "The size of all slabs is unknown: /proc/slabinfo could not be read.",
        )
        return
    rows.sort(reverse=True)
    largest = listed([f"{name} ({size(held)})" for held, name in rows[:_MOST]])
    yield Sentence(
        "memory",
        f"All slabs of this host take {size(sum(held for held, _ in rows))} in "
        f"{count(len(rows), 'cache')}, including what was allocated before tracking began. The "
        f"largest: {largest}.",
    )


def total_live(snapshot: Snapshot) -> Live:
    """Return the estimate of all live memory together."""
    tracked = snapshot.tracked
    groups = np.zeros(len(tracked.bytes), int)
    return Grouped(tracked.bytes, tracked.interval, snapshot.tracking.sample_bytes).by(groups, 1)[0]


def live_memory(snapshot: Snapshot) -> Iterable[Sentence]:
    """Say how much of what was allocated while tracking is live."""
    tracking = snapshot.tracking
    if tracking.activity != Activity.AWAKE:
        yield Sentence(
            "live",
            f"Tracking is {tracking.activity}: allocation events are not counted now, so what is "
            "live is not known. Memory by cache and by device is.",
        )
        return
    live = total_live(snapshot)
    held = sum(cache.live.bytes for cache in snapshot.caches)
    exact = live.stderr_bytes == 0 and tracking.sample_bytes == 0
    how = (
        "exact"
        if exact
        else f"95 % confidence interval {size(live.low_bytes)} to {size(live.high_bytes)}"
    )
    yield Sentence(
        "live",
        f"{size(held)} of the memory allocated in the {duration(tracking.seconds)} since "
        f"tracking began is live ({how}). Older allocations are not included.",
    )
    interrupts = [
        f"{size(live.bytes)} by {_INTERRUPTS[context]}"
        for context, live in live_by_context(snapshot).items()
        if context in _INTERRUPTS and live.bytes
    ]
    if interrupts:
        yield Sentence(
            "live",
            f"Not processes but interrupts allocated {listed(interrupts)} of it.",
        )
    for kind, rows in (
        ("caches", [(row.live.bytes, all_names(row)) for row in snapshot.caches]),
        ("call sites", [(row.live.bytes, row.full_label) for row in snapshot.sites]),
    ):
        largest = sorted(((b, name) for b, name in rows if b > 0), reverse=True)[:_MOST]
        if largest and held:
            names = listed([f"{name} ({size(b)}, {b / held:.0%})" for b, name in largest])
            yield Sentence("live", f"The {kind} with most of it: {names}.")


def device_memory(snapshot: Snapshot) -> Iterable[Sentence]:
    """Say how much memory managed resources hold."""
    holding = sorted(
        (d for d in snapshot.devices if d.resources), key=lambda d: (-d.managed_bytes, d.name)
    )
    if not holding:
        yield Sentence(
            "devices", "No device holds managed (devres) resources, as far as they could be read."
        )
        return
    total = sum(device.managed_bytes for device in holding)
    largest = listed(
        [
            f"{device.name} ({device.driver or 'no driver'}, {size(device.managed_bytes)})"
            for device in holding[:_MOST]
        ]
    )
    known = [d.slab_bytes for d in holding if d.slab_bytes is not None]
    slabs = f"Slab objects behind the resources take {size(sum(known))}"
    if len(known) < len(holding):
        slabs += f", known for {len(known):,} of {count(len(holding), 'device')}"
    inventory = snapshot.features.get("device_inventory")
    since = (
        "including those allocated before tracking began"
        if inventory is not None and inventory.state == "on"
        else "without those allocated before tracking began, which could not be read"
    )
    yield Sentence(
        "devices",
        f"{count(len(holding), 'device holds', 'devices hold')} "
        f"{count(sum(d.resources for d in holding), 'managed resource')} of {size(total)}, "
        f"{since}. {slabs}. The largest: {largest}.",
    )


def changes(before: Snapshot, now: Snapshot, change: Paths) -> Iterable[Sentence]:
    """Say what changed between two moments."""
    delta = difference(before, now)
    allocated = sum(row["allocated_bytes"] for row in delta.caches.values())
    freed = sum(row["freed_bytes"] for row in delta.caches.values())
    net, error = int(change.bytes.sum()), float(change.variance.sum()) ** 0.5
    yield Sentence(
        "growth",
        f"In the {duration(delta.seconds)} between the two moments {size(allocated)} was "
        f"allocated and {size(freed)} was freed, some of it allocated earlier. Live memory "
        f"changed by {signed(net)}{_doubt(net, error)}.",
    )


def _doubt(value: float, error: float) -> str:
    """Format the standard error of a change; empty if the change is exact."""
    if error == 0:
        return ""
    remark = "" if abs(value) >= _SIGNIFICANT * error else ", not significant"
    return f" (± {size(error)}{remark})"


class Growth(NamedTuple):
    """A row of a view and its figure over the known history: `values` in bytes at `times` (seconds
    of tracking). `error` bounds one standard error of the growth, in bytes (0: exact)."""

    name: str
    times: list[float]
    values: list[int]
    error: float

    @property
    def bytes(self) -> int:
        """Bytes it grew by."""
        return self.values[-1] - self.values[0]

    @property
    def per_hour(self) -> float:
        """Bytes it grew by per hour."""
        return self.bytes / (self.times[-1] - self.times[0]) * 3600


def grown(window: Window, view: str, limit: int) -> list[Growth]:
    """Return the rows that grew most, largest first; none if the window has no past."""
    if not window.moments or window.span <= 0:
        return []
    table = Table(VIEWS[view], window)
    rates = table.values("growth_bytes_per_hour")
    errors = table.growth_error() if table.view.figure_error else np.zeros(len(table))
    order = table.order("growth_bytes_per_hour")[:limit]
    order = order[rates[order] > 0]
    times = [*window.moments, window.snapshot.tracking.seconds]
    return [
        Growth(row_label(table, row), times, values, float(errors[row]) * window.span / 3600)
        for row, values in zip(order.tolist(), table.figures(order), strict=True)
    ]


def growth(period: ReportPeriod) -> Iterable[Sentence]:
    """Say which rows grew most over the known history."""
    window = period.window
    if not window.moments or window.span <= 0:
        yield Sentence(
            "growth",
            "Growth is unknown, for it takes two moments: report on a recording, or watch for "
            "some time with --seconds.",
        )
        return
    any_growth = False
    for view, kind in zip(GROWING, ("cache", "call site", "device"), strict=True):
        rows = grown(window, view, _MOST)
        if rows:
            any_growth = True
            largest = listed(
                [f"{row.name} by {size(row.bytes)}{_doubt(row.bytes, row.error)}" for row in rows]
            )
            names = kind + "s" if len(rows) > 1 else kind
            yield Sentence(
                "growth",
                f"The {names} that grew most in the last {duration(window.span)}: {largest}.",
            )
    if not any_growth:
        yield Sentence(
            "growth", f"No cache, call site or device grew in the last {duration(window.span)}."
        )


def row_label(table: Table, row: int) -> str:
    """Return the name of a row of one of the views GROWING."""
    item = table.listing.rows[row]
    return str(getattr(item, "full_label", None) or getattr(item, "name", ""))


def counters(snapshot: Snapshot) -> Sentence:
    """Say what was counted."""
    allocs = sum(cache.allocs for cache in snapshot.caches)
    failed = sum(cache.failed for cache in snapshot.caches)
    total = sum(cache.allocated_bytes for cache in snapshot.caches)
    requested = sum(cache.requested_bytes for cache in snapshot.caches)
    waste = f", of which {(total - requested) / total:.1%} was not requested" if total else ""
    return Sentence(
        "certainty",
        f"{count(allocs, 'allocation')} of {size(total)} counted exactly{waste}; "
        f"{f'{failed:,}' if failed else 'none'} failed.",
    )


def sampling(snapshot: Snapshot) -> Sentence:
    """Say how live figures were obtained."""
    interval = snapshot.tracking.sample_bytes
    if not interval:
        return Sentence(
            "certainty",
            "Live memory was tracked object by object; its figures are exact where all frees "
            "can be observed.",
        )
    return Sentence(
        "certainty",
        f"Live memory is estimated from samples, one per {size(interval)} allocated on average "
        f"({count(len(snapshot.tracked.bytes), 'tracked object')}); holders of less than about "
        f"{size(3 * interval)} may be missing.",
    )


def losses(snapshot: Snapshot) -> Iterable[Sentence]:
    """Say which events were lost."""
    lost = sorted(((n, reason) for reason, n in snapshot.losses.items() if n), reverse=True)
    if not lost:
        yield Sentence("losses", "No event was lost.")
        return
    reasons = listed([f"{reason} ({number:,})" for number, reason in lost], len(lost))
    events = sum(cache.allocs + cache.frees for cache in snapshot.caches)
    total = sum(number for number, _ in lost)
    share = f" ({events:,} were counted)" if events else ""
    yield Sentence(
        "losses",
        f"{count(total, 'event was', 'events were')} lost since tracking began{share}: "
        f"{reasons}. Counters may be short by as much, and memory whose free was lost still "
        "counts as live.",
    )


def unseen(snapshot: Snapshot) -> Iterable[Sentence]:
    """Say which frees, stacks and sizes cannot be observed."""
    hidden = sorted(
        ((cache.live.bytes, cache.name) for cache in snapshot.caches if not cache.frees_observable),
        reverse=True,
    )
    if hidden:
        names = listed([name for _, name in hidden], 5)
        yield Sentence(
            "limits",
            f"Not all frees can be observed in {count(len(hidden), 'cache')} ({names}): live "
            "figures there are upper bounds, and growth there is not evidence of a leak.",
        )
    unstacked = int((snapshot.tracked.stack < 0).sum())
    if unstacked:
        yield Sentence(
            "limits",
            f"The kernel stack is missing for {unstacked:,} of "
            f"{count(len(snapshot.tracked.stack), 'tracked object')}; only their call site is "
            "known.",
        )
    unknown = sum(device.slab_bytes is None for device in snapshot.devices)
    if unknown:
        yield Sentence(
            "limits",
            f"The slab memory behind the resources of {count(unknown, 'device')} is unknown.",
        )


def features(snapshot: Snapshot) -> Iterable[Sentence]:
    """Say which capabilities are degraded or off."""
    limited = sorted(name for name, state in snapshot.features.items() if state.state != "on")
    if limited:
        yield Sentence(
            "limits",
            f"{count(len(limited), 'capability is', 'capabilities are')} degraded or off: "
            f"{listed(limited, len(limited))}. The reasons are below.",
        )
