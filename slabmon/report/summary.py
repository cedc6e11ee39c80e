# SPDX-License-Identifier: Apache-2.0
"""The summary of a report: what it found, how sure that is, and what it cannot know, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from slabmon.analysis.delta import difference
from slabmon.analysis.sampling import Grouped
from slabmon.base.format import duration, human
from slabmon.base.units import BYTES
from slabmon.model import Live, Snapshot
from slabmon.report.paths import Paths
from slabmon.report.selection import GROWING, ReportPeriod
from slabmon.views.catalogue import VIEWS
from slabmon.views.table import Table
from slabmon.views.window import Window

_MOST = 3
# Growth below so many standard errors is not told from the error of sampling.
_SURE = 2.0


class Sentence(NamedTuple):
    """Some words and what they are about."""

    topic: str
    text: str


def size(value: float) -> str:
    """Bytes for people."""
    return human(round(value), BYTES)


def signed(value: float) -> str:
    """A change in bytes."""
    return ("+" if value > 0 else "") + size(value)


def count(number: int, one: str, many: str = "") -> str:
    """1 device, 5 devices."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(parts: Sequence[str], most: int = _MOST) -> str:
    """a, b and c; a, b, c and 4 others."""
    shown = list(parts[:most])
    if len(parts) > most:
        shown.append(count(len(parts) - most, "other"))
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def summary(period: ReportPeriod, change: Paths | None) -> list[Sentence]:
    """All sentences about a period; `change` are the paths of what changed, if it is about two
    moments."""
    now = period.now.snapshot
    found = [*slab_memory(now), *live_memory(now), *device_memory(now)]
    if period.before is not None and change is not None:
        found += changes(period.before.snapshot, now, change)
    found += growth(period)
    found += [counters(now), sampling(now), *losses(now), *unseen(now), *features(now)]
    return found


def slab_memory(snapshot: Snapshot) -> Iterable[Sentence]:
    """What all slabs take, of all time."""
    rows = [(cache.slabinfo.slab_bytes, cache.name) for cache in snapshot.caches if cache.slabinfo]
    if not rows:
        yield Sentence(
            "memory",
            "How much memory all slabs take is not known: /proc/slabinfo could not be read.",
        )
        return
    rows.sort(reverse=True)
    most = listed([f"{name} ({size(held)})" for held, name in rows[:_MOST]])
    yield Sentence(
        "memory",
        f"All slabs of this host take {size(sum(held for held, _ in rows))}, in "
        f"{count(len(rows), 'cache')}, whoever allocated them and whenever; the largest are "
        f"{most}.",
    )


def total_live(snapshot: Snapshot) -> Live:
    """The estimate of all live memory in one."""
    tracked = snapshot.tracked
    groups = np.zeros(len(tracked.bytes), int)
    return Grouped(tracked.bytes, tracked.interval, snapshot.tracking.sample_bytes).by(groups, 1)[0]


def live_memory(snapshot: Snapshot) -> Iterable[Sentence]:
    """What is live of what was allocated while tracked."""
    live = total_live(snapshot)
    held = sum(cache.live.bytes for cache in snapshot.caches)
    exact = live.stderr_bytes == 0 and snapshot.tracking.sample_bytes == 0
    how = (
        "exactly"
        if exact
        else (f"with 95 % confidence from {size(live.low_bytes)} to {size(live.high_bytes)}")
    )
    yield Sentence(
        "live",
        f"Of what was allocated in the {duration(snapshot.tracking.seconds)} since "
        f"tracking began, {size(held)} is still held ({how}). What is older is not part of this.",
    )
    for what, rows in (
        ("caches", [(row.live.bytes, row.name) for row in snapshot.caches]),
        ("call sites", [(row.live.bytes, row.full_label) for row in snapshot.sites]),
    ):
        most = sorted(((b, name) for b, name in rows if b > 0), reverse=True)[:_MOST]
        if most and held:
            names = listed([f"{name} ({size(b)}, {b / held:.0%})" for b, name in most])
            yield Sentence("live", f"The {what} that hold most of it: {names}.")


def device_memory(snapshot: Snapshot) -> Iterable[Sentence]:
    """What managed resources hold."""
    holding = sorted(
        (d for d in snapshot.devices if d.resources), key=lambda d: (-d.managed_bytes, d.name)
    )
    if not holding:
        yield Sentence("devices", "No device is known to hold managed (devres) resources.")
        return
    total = sum(device.managed_bytes for device in holding)
    most = listed(
        [
            f"{device.name} ({device.driver or 'no driver'}, {size(device.managed_bytes)})"
            for device in holding[:_MOST]
        ]
    )
    known = [d.slab_bytes for d in holding if d.slab_bytes is not None]
    slabs = f", which occupy {size(sum(known))} of slab memory"
    if len(known) < len(holding):
        slabs += f" as far as it is known (of {len(known):,} of them)"
    inventory = snapshot.features.get("device_inventory")
    since = (
        "all of them, also those from before tracking began"
        if inventory is not None and inventory.state == "on"
        else "those added while tracked, for older ones could not be read"
    )
    yield Sentence(
        "devices",
        f"{count(len(holding), 'device')} hold "
        f"{count(sum(d.resources for d in holding), 'managed resource')} of {size(total)}"
        f"{slabs}: {since}. The most is held by {most}.",
    )


def changes(before: Snapshot, now: Snapshot, change: Paths) -> Iterable[Sentence]:
    """What differs between two moments."""
    delta = difference(before, now)
    allocated = sum(row["allocated_bytes"] for row in delta.caches.values())
    freed = sum(row["freed_bytes"] for row in delta.caches.values())
    net, error = int(change.bytes.sum()), float(change.variance.sum()) ** 0.5
    yield Sentence(
        "growth",
        f"In the {duration(delta.seconds)} between the two moments {size(allocated)} "
        f"were allocated and {size(freed)} were freed, in part what had been allocated before. "
        "Of what was allocated while tracked, the live part changed by "
        f"{signed(net)}{_doubt(net, error)}.",
    )


def _doubt(value: float, error: float) -> str:
    if error == 0:
        return ""
    sure = "" if abs(value) >= _SURE * error else ", no more than chance explains"
    return f" (± {size(error)}{sure})"


class Growth(NamedTuple):
    """One row of a view and what its figure did over the history that is known: `values` at
    `times` (seconds of tracking), `error` one standard error of the growth at most (0: exact)."""

    name: str
    times: list[float]
    values: list[int]
    error: float

    @property
    def bytes(self) -> int:
        """How much it grew."""
        return self.values[-1] - self.values[0]

    @property
    def per_hour(self) -> float:
        """The same, per hour."""
        return self.bytes / (self.times[-1] - self.times[0]) * 3600


def grown(window: Window, view: str, most: int) -> list[Growth]:
    """What grew most, largest first; nothing if the window has no past."""
    if not window.moments or window.span <= 0:
        return []
    table = Table(VIEWS[view], window)
    rates = table.values("growth_bytes_per_hour")
    errors = table.growth_error() if table.view.figure_error else np.zeros(len(table))
    order = table.order("growth_bytes_per_hour")[:most]
    order = order[rates[order] > 0]
    times = [*window.moments, window.snapshot.tracking.seconds]
    return [
        Growth(row_label(table, row), times, values, float(errors[row]) * window.span / 3600)
        for row, values in zip(order.tolist(), table.history(order), strict=True)
    ]


def growth(period: ReportPeriod) -> Iterable[Sentence]:
    """What grew most over the history that is known."""
    window = period.window
    if not window.moments or window.span <= 0:
        yield Sentence(
            "growth",
            "What grew is not known: that takes two moments. Record for a "
            "while, or give --seconds.",
        )
        return
    none = True
    for view, what in zip(GROWING, ("cache", "call site", "device"), strict=True):
        rows = grown(window, view, _MOST)
        if rows:
            none = False
            most = listed(
                [f"{row.name} by {size(row.bytes)}{_doubt(row.bytes, row.error)}" for row in rows]
            )
            whose = what + "s" if len(rows) > 1 else what
            yield Sentence(
                "growth", f"In the last {duration(window.span)} the {whose} that grew most: {most}."
            )
    if none:
        yield Sentence(
            "growth", f"In the last {duration(window.span)} no cache, call site or device grew."
        )


def row_label(table: Table, row: int) -> str:
    """What a row of GROWING is called."""
    here = table.listing.rows[row]
    return str(getattr(here, "full_label", None) or getattr(here, "name", ""))


def counters(snapshot: Snapshot) -> Sentence:
    """What was counted."""
    allocs = sum(cache.allocs for cache in snapshot.caches)
    failed = sum(cache.failed for cache in snapshot.caches)
    total = sum(cache.allocated_bytes for cache in snapshot.caches)
    asked = sum(cache.requested_bytes for cache in snapshot.caches)
    waste = f"; {(total - asked) / total:.1%} of these bytes nobody asked for" if total else ""
    return Sentence(
        "certainty",
        f"{count(allocs, 'allocation')} of {size(total)} were counted, one by one"
        f"{waste}; {f'{failed:,}' if failed else 'none'} failed.",
    )


def sampling(snapshot: Snapshot) -> Sentence:
    """How live figures were obtained."""
    interval = snapshot.tracking.sample_bytes
    if not interval:
        return Sentence(
            "certainty",
            "Live memory was tracked object by object; its figures are "
            "exact as far as frees can be seen.",
        )
    return Sentence(
        "certainty",
        f"Live memory is estimated from samples, one in every {size(interval)} "
        f"allocated on average ({count(len(snapshot.tracked.bytes), 'tracked object')}); whatever "
        f"holds less than about {size(3 * interval)} can have been missed.",
    )


def losses(snapshot: Snapshot) -> Iterable[Sentence]:
    """What was lost."""
    lost = sorted(((n, reason) for reason, n in snapshot.losses.items() if n), reverse=True)
    if not lost:
        yield Sentence("losses", "No event was lost.")
        return
    reasons = listed([f"{reason} ({number:,})" for number, reason in lost], len(lost))
    events = sum(cache.allocs + cache.frees for cache in snapshot.caches)
    total = sum(number for number, _ in lost)
    share = f", against {events:,} that were counted" if events else ""
    yield Sentence(
        "losses",
        f"{count(total, 'loss', 'losses')} since tracking began{share}: "
        f"{reasons}. Counters can be short by as much, and what was freed unseen is "
        "still held here.",
    )


def unseen(snapshot: Snapshot) -> Iterable[Sentence]:
    """Frees that cannot be seen."""
    hidden = sorted(
        ((cache.live.bytes, cache.name) for cache in snapshot.caches if not cache.frees_observable),
        reverse=True,
    )
    if hidden:
        names = listed([name for _, name in hidden], 5)
        yield Sentence(
            "limits",
            f"Not all frees can be seen in {count(len(hidden), 'cache')} "
            f"({names}): live figures there are upper bounds, and growth is no sign "
            "of a leak.",
        )
    unstacked = int((snapshot.tracked.stack < 0).sum())
    if unstacked:
        yield Sentence(
            "limits",
            f"The kernel stack is missing for {unstacked:,} of "
            f"{count(len(snapshot.tracked.stack), 'tracked object')}: of them only the "
            "call site is known.",
        )
    unknown = sum(device.slab_bytes is None for device in snapshot.devices)
    if unknown:
        yield Sentence(
            "limits",
            f"What the resources of {count(unknown, 'device')} occupy in slabs is not known.",
        )


def features(snapshot: Snapshot) -> Iterable[Sentence]:
    """What this host does not offer."""
    limited = sorted(name for name, state in snapshot.features.items() if state.state != "on")
    if limited:
        yield Sentence(
            "limits",
            f"{count(len(limited), 'capability', 'capabilities')} not fully "
            f"on: {listed(limited, len(limited))}; the reasons are below.",
        )
