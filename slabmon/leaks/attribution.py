# SPDX-License-Identifier: Apache-2.0
"""Attribute growth to call sites, caches, module, drivers and devices, and leave out findings that
others explain."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from slabmon.analysis.callers import largest_callers, represented
from slabmon.analysis.sampling import probability
from slabmon.base.arrays import Bool
from slabmon.leaks.finding import NOBODY, Dismissal, Finding, Holders, Kind
from slabmon.leaks.holders import Held, find_holders, held_by_running, share_by_cgroup
from slabmon.leaks.series import device_key, site_key
from slabmon.leaks.subjects import objects_of
from slabmon.model import Cache, Snapshot

_NAMED = 8
_CALLERS = 3
# Functions that allocate managed memory on behalf of drivers.
_DEVRES = ("devm_", "alloc_dr", "__devres_alloc", "devres_")
_MOST = 0.5
_OVER_CACHES = (Kind.FAMILY, Kind.CGROUP)
_ORDER = (Kind.DEVICE, Kind.SITE, Kind.CALLER, Kind.DRIVER, Kind.CACHE, *_OVER_CACHES)


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Composition of a growth.

    Its survivors are the live objects that grew old in the window; `samples` is how many of them
    are tracked, `objects` how many these represent, `bytes_by_cache` and `bytes_by_site` (by row of
    the snapshot, the largest first) their bytes, `oldest` the age of the oldest in seconds. `live`
    is all that the suspect holds, in bytes. `holders` allocated the survivors, `running` are those
    processes of them that run; `share_by_cgroup` is by path.
    """

    name: str = ""
    live: float = 0.0
    module: str = ""
    drivers: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    holders: Holders = NOBODY
    running: tuple[Held, ...] = ()
    share_by_cgroup: dict[str, float] = field(default_factory=dict)
    samples: int = 0
    objects: float = 0.0
    bytes_by_cache: dict[int, float] = field(default_factory=dict)
    bytes_by_site: dict[int, float] = field(default_factory=dict)
    oldest: float = 0.0

    @property
    def bytes(self) -> float:
        """Bytes that the survivors represent."""
        return sum(self.bytes_by_cache.values())


def attribute_growth(
    now: Snapshot, kind: Kind, key: Hashable, start: float, age: float
) -> Attribution | None:
    """Attribute the growth of a suspect since `start` (tracking seconds) by objects older than
    `age` seconds. Return None if the suspect no longer exists."""
    if kind == Kind.DEVICE:
        return _device(now, key)
    named = _named(now, kind, key)
    if named is None:
        return None
    mine = objects_of(now, kind, key)
    survivors = _survivors(now, mine, start, age)
    module = named.module
    if kind not in (Kind.SITE, Kind.DRIVER):
        modules = {now.sites[row].module or "" for row in survivors.bytes_by_site}
        module = modules.pop() if len(modules) == 1 else ""
    drivers, devices = _drivers_and_devices(now, module)
    return replace(
        survivors,
        name=named.name,
        live=float(represented(now.tracked)[mine].sum()) if named.live is None else named.live,
        module=module,
        drivers=drivers,
        devices=devices,
    )


class _Named(NamedTuple):
    """A suspect's name and module, and the bytes that it holds (None: those of its objects)."""

    name: str
    live: float | None = None
    module: str = ""


def _named(now: Snapshot, kind: Kind, key: Hashable) -> _Named | None:
    """Return what is known of a suspect, None if it no longer exists."""
    if kind in (Kind.CALLER, Kind.CGROUP):
        return _Named(str(key))
    if kind in (Kind.SITE, Kind.DRIVER):
        sites = [s for s in now.sites if (site_key(s) if kind == Kind.SITE else s.owner) == key]
        if not sites:
            return None
        name = sites[0].full_label if kind == Kind.SITE else sites[0].owner[1]
        return _Named(name, float(sum(s.live.bytes for s in sites)), sites[0].module or "")
    name = str(key[0] if isinstance(key, tuple) else key)
    caches = [c for c in now.caches if (c.family if kind == Kind.FAMILY else c.name) == name]
    return _Named(name, float(sum(c.live.bytes for c in caches))) if caches else None


def attribute_unreclaimable(now: Snapshot, start: float, age: float) -> Attribution:
    """Attribute growth of all caches together that the kernel cannot shrink, as attribute_growth()
    does."""
    fixed = np.array([not cache.reclaimable for cache in now.caches] or [False], bool)
    return _survivors(now, fixed[now.tracked.cache], start, age)


def _device(now: Snapshot, key: Hashable) -> Attribution | None:
    device = next((device for device in now.devices if device_key(device) == key), None)
    if device is None:
        return None
    return Attribution(
        name=f"{device.bus}:{device.name}",
        live=device.managed_bytes,
        module=device.module or "",
        drivers=(device.driver,) if device.driver else (),
        devices=(device.name,),
        caches=tuple(list(device.slab_by_cache)[:_NAMED]),
    )


def _survivors(now: Snapshot, mine: Bool, start: float, age: float) -> Attribution:
    """Attribute the growth of these tracked objects: (objects,)."""
    tracked = now.tracked
    ages = tracked.age
    mask = mine & (ages >= age) & (ages <= now.tracking.seconds - start + age)
    rows = np.flatnonzero(mask)
    weight = 1 / probability(tracked.bytes[rows].astype(float), tracked.interval[rows])
    size = tracked.bytes[rows] * weight
    by_cache = np.bincount(tracked.cache[rows], size, len(now.caches))
    by_site = np.bincount(tracked.site[rows], size, len(now.sites))
    bytes_by_cache, bytes_by_site = (
        {i: float(column[i]) for i in np.argsort(-column, kind="stable").tolist() if column[i]}
        for column in (by_cache, by_site)
    )
    return Attribution(
        samples=len(rows),
        objects=float(weight.sum()),
        bytes_by_cache=bytes_by_cache,
        bytes_by_site=bytes_by_site,
        caches=tuple(now.caches[i].name for i in list(bytes_by_cache)[:_NAMED]),
        sites=tuple(now.sites[i].full_label for i in list(bytes_by_site)[:_NAMED]),
        callers=largest_callers(now, rows, _CALLERS),
        holders=find_holders(now, rows, size),
        running=tuple(held_by_running(now, rows, weight)),
        share_by_cgroup=share_by_cgroup(now, rows, size),
        oldest=float(ages[rows].max(initial=0.0)),
    )


def _drivers_and_devices(now: Snapshot, module: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the drivers of a module and the devices that are bound to them."""
    bound = [device for device in now.devices if module and device.module == module]
    drivers = sorted({device.driver for device in bound if device.driver})
    return tuple(drivers), tuple(device.name for device in bound[:_NAMED])


def share(attribution: Attribution, now: Snapshot, attribute: str) -> float:
    """Return the share of the survivors' bytes in caches of which this attribute is true."""
    amount: float = sum(
        size
        for row, size in attribution.bytes_by_cache.items()
        if getattr(now.caches[row], attribute)
    )
    return amount / attribution.bytes if attribution.bytes else 0.0


def cache_named(now: Snapshot, name: str) -> Cache:
    """Return the cache of this name, which must exist."""
    return next(cache for cache in now.caches if cache.name == name)


def without_explained(findings: list[tuple[Finding, Attribution]]) -> Iterable[Finding]:
    """Return the findings that no other finding explains: verdicts first, each by growth.

    Devices come before the call sites that allocate on behalf of all devices, sites before their
    callers, these before modules, and so on, as _ORDER says. A finding that consists mostly of the
    verdicts before it is left out; one that consists mostly of dismissed sites is dismissed.
    """
    managed = sum(f.grown for f, _ in findings if f.kind == Kind.DEVICE and not f.dismissed)
    guilty: set[int] = set()  # rows of sites
    caches: set[int] = set()  # rows of caches
    innocent: dict[int, Finding] = {}
    remaining: list[Finding] = []
    for kind in _ORDER:
        for finding, attribution in findings:
            if finding.kind != kind:
                continue
            sites = set(attribution.bytes_by_site)
            if finding.dismissed or kind == Kind.DEVICE:
                remaining.append(finding)
                if kind == Kind.SITE:
                    innocent |= dict.fromkeys(sites, finding)
            elif kind == Kind.SITE:
                guilty |= sites
                if not (finding.name.startswith(_DEVRES) and managed >= _MOST * finding.grown):
                    remaining.append(finding)
            elif _mostly(attribution.bytes_by_site, guilty):
                continue
            elif kind == Kind.CALLER:
                guilty |= sites
                remaining.append(finding)
            elif _mostly(attribution.bytes_by_site, set(innocent)):
                main = innocent[next(i for i in attribution.bytes_by_site if i in innocent)]
                reason = f"most of it is {main.name}: {main.dismissed}"
                remaining.append(
                    replace(finding, dismissed=reason, dismissal=Dismissal.DISMISSED_SITE)
                )
            elif kind in _OVER_CACHES and _mostly(attribution.bytes_by_cache, caches):
                continue
            else:
                remaining.append(finding)
                guilty |= sites if kind == Kind.DRIVER else set()
                caches |= set(attribution.bytes_by_cache) if kind == Kind.CACHE else set()
    # A cache can be found twice: by samples and by its exact counters.
    unique: dict[Hashable, Finding] = {}
    for finding in sorted(remaining, key=lambda f: (bool(f.dismissed), -f.growth)):
        unique.setdefault((finding.kind, finding.key), finding)
    return unique.values()


def _mostly(bytes_by_row: dict[int, float], rows: set[int]) -> bool:
    """Whether most of a growth is of these call sites, or caches."""
    amount = sum(size for row, size in bytes_by_row.items() if row in rows)
    return amount >= _MOST * max(sum(bytes_by_row.values()), 1.0)
