# SPDX-License-Identifier: Apache-2.0
"""Which series a tracked object belongs to, and which objects a suspect's are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

import numpy as np

from slabmon.analysis.callers import caller_of, is_helper
from slabmon.base.arrays import I32, I64, U64, Bool, contained, distinct
from slabmon.leaks.finding import Kind
from slabmon.leaks.series import Subject, site_key
from slabmon.model import Snapshot

_NONE = -1


def memberships(snapshot: Snapshot, positions: I64, number: Callable[[Subject], int]) -> I32:
    """Return the series of the tracked objects at these positions: (memberships, positions),
    in the order of finding.MEMBERSHIPS.

    Objects of caches whose frees cannot all be seen have none (-1), since they may have been freed.
    A caller has a series where the call site is in a helper, a family where it has several caches,
    a cgroup where there are several.
    """
    tracked = snapshot.tracked
    sites, caches = tracked.site[positions], tracked.cache[positions]
    by_site = np.full((2, len(snapshot.sites) + 1), _NONE, np.int32)
    for i in _present(sites):
        site = snapshot.sites[i]
        by_site[0, i] = number((Kind.SITE, site_key(site)))
        if site.module:
            by_site[1, i] = number((Kind.DRIVER, site.owner))
    families = Counter(cache.family for cache in snapshot.caches)
    by_cache = np.full((2, len(snapshot.caches) + 1), _NONE, np.int32)
    for i in _present(caches):
        cache = snapshot.caches[i]
        by_cache[0, i] = number((Kind.CACHE, cache.name))
        if families[cache.family] > 1:
            by_cache[1, i] = number((Kind.FAMILY, cache.family))
    index, labels = _callers(snapshot, positions)
    by_caller = np.array([number((Kind.CALLER, label)) for label in labels] + [_NONE], np.int32)
    rows = np.stack(
        [
            by_site[0][sites],
            by_site[1][sites],
            by_cache[0][caches],
            by_caller[index],
            by_cache[1][caches],
            _by_cgroup(snapshot, positions, number),
        ]
    )
    observable = np.array([cache.frees_observable for cache in snapshot.caches] or [True])
    if not observable.all():
        rows[:, ~observable[caches]] = _NONE
    return rows


def _present(column: I64) -> list[int]:
    """Return the row numbers that occur in a column, in order. Sorting it takes much longer."""
    present: list[int] = np.flatnonzero(np.bincount(column)).tolist()
    return present


def _by_cgroup(snapshot: Snapshot, positions: I64, number: Callable[[Subject], int]) -> I32:
    """Return the series of the cgroup of each object, -1 where there is only one cgroup."""
    tracked = snapshot.tracked
    if not len(positions) or (tracked.cgroup == tracked.cgroup[0]).all():
        return np.full(len(positions), _NONE, np.int32)
    column = tracked.own_cgroup[positions]
    values = distinct(column)
    paths = [tracked.cgroups.get(value, "") for value in values.tolist()]
    rows = np.array([number((Kind.CGROUP, path)) if path else _NONE for path in paths], np.int32)
    return rows[np.searchsorted(values, column)]


def _callers(snapshot: Snapshot, positions: I64) -> tuple[I64, list[str]]:
    """Return the caller of each object whose call site is in a helper, as an index of the labels
    behind; -1 for others."""
    tracked = snapshot.tracked
    helpers = np.array([is_helper(site.symbol) for site in snapshot.sites] or [False], bool)
    index = np.full(len(positions), _NONE)
    stacks = tracked.stack[positions]
    mine = helpers[tracked.site[positions]] & (stacks >= 0)
    if not mine.any():
        return index, []
    values = distinct(stacks[mine])
    callers = [caller_of(tracked.stacks.get(stack, ())) or "" for stack in values.tolist()]
    labels = list(dict.fromkeys(caller for caller in callers if caller))
    place = {label: i for i, label in enumerate(labels)}
    places = np.array([place.get(caller, _NONE) for caller in callers] or [_NONE], np.int64)
    index[mine] = places[np.searchsorted(values, stacks[mine])]
    return index, labels


def objects_of(snapshot: Snapshot, kind: Kind, key: Hashable) -> Bool:
    """Return the mask of the tracked objects of a suspect: (objects,)."""
    tracked = snapshot.tracked
    if kind == Kind.CALLER:
        index, labels = _callers(snapshot, np.arange(len(tracked.bytes)))
        mine: Bool = index == (labels.index(str(key)) if key in labels else _NONE - 1)
        return mine
    if kind == Kind.CGROUP:
        numbers = [number for number, path in tracked.cgroups.items() if path == key]
        among: U64 = np.array(numbers, np.uint64)
        return contained(tracked.own_cgroup, among)
    if kind in (Kind.SITE, Kind.DRIVER):
        wanted = [
            (site_key(site) if kind == Kind.SITE else site.owner) == key for site in snapshot.sites
        ]
        return np.array(wanted or [False], bool)[tracked.site]
    name = key[0] if isinstance(key, tuple) else key
    wanted = [
        (cache.family if kind == Kind.FAMILY else cache.name) == name for cache in snapshot.caches
    ]
    return np.array(wanted or [False], bool)[tracked.cache]
