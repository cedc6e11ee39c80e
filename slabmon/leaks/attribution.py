# SPDX-License-Identifier: Apache-2.0
"""Attribute growth to call sites, caches, module, drivers and devices, and leave out findings that
others explain."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from slabmon.analysis.callers import largest_callers
from slabmon.analysis.sampling import probability
from slabmon.base.arrays import F64, Bool, Bytes
from slabmon.base.escape import escape
from slabmon.leaks.finding import Dismissal, Finding, Kind
from slabmon.leaks.series import device_key, site_key
from slabmon.model import Cache, Snapshot

_NAMED = 8
_CALLERS = 3
# Functions that allocate managed memory on behalf of drivers.
_DEVRES = ("devm_", "alloc_dr", "__devres_alloc", "devres_")
_MOST = 0.5


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Composition of a growth.

    Its survivors are the live objects that grew old in the window; `samples` is how many of them
    are tracked, `objects` how many these represent, `bytes_by_cache` and `bytes_by_site` (by row of
    the snapshot, the largest first) their bytes, `oldest` the age of the oldest in seconds. `live`
    is all that the suspect holds, in bytes; `processes` allocated most of the survivors, with their
    shares.
    """

    name: str = ""
    live: float = 0.0
    module: str = ""
    drivers: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
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
    sites: set[int] | None = None
    caches: set[int] | None = None
    if kind in (Kind.SITE, Kind.DRIVER):
        sites = {
            row
            for row, site in enumerate(now.sites)
            if (site_key(site) if kind == Kind.SITE else site.owner) == key
        }
        if not sites:
            return None
        first = now.sites[min(sites)]
        name = first.full_label if kind == Kind.SITE else first.owner[1]
        module = first.module or ""
        live = float(sum(now.sites[row].live.bytes for row in sites))
    else:
        name, module = str(key[0] if isinstance(key, tuple) else key), ""
        caches = {row for row, cache in enumerate(now.caches) if cache.name == name}
        if not caches:
            return None
        live = float(sum(now.caches[row].live.bytes for row in caches))
    survivors = _survivors(now, sites, caches, start, age)
    if caches is not None:
        modules = {now.sites[row].module or "" for row in survivors.bytes_by_site}
        module = modules.pop() if len(modules) == 1 else ""
    drivers, devices = _drivers_and_devices(now, module)
    return replace(survivors, name=name, live=live, module=module, drivers=drivers, devices=devices)


def attribute_unreclaimable(now: Snapshot, start: float, age: float) -> Attribution:
    """Attribute growth of all caches together that the kernel cannot shrink, as attribute_growth()
    does."""
    caches = {row for row, cache in enumerate(now.caches) if not cache.reclaimable}
    return _survivors(now, None, caches, start, age)


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


def _survivors(
    now: Snapshot, sites: set[int] | None, caches: set[int] | None, start: float, age: float
) -> Attribution:
    tracked = now.tracked
    ages = tracked.age
    mask = (ages >= age) & (ages <= now.tracking.seconds - start + age)
    if sites is not None:
        mask &= _chosen(sites, len(now.sites))[tracked.site]
    if caches is not None:
        mask &= _chosen(caches, len(now.caches))[tracked.cache]
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
        processes=_largest_processes(now.tracked.comm[rows], size),
        oldest=float(ages[rows].max(initial=0.0)),
    )


def _chosen(indices: set[int], count: int) -> Bool:
    """Return the mask of these indices, of shape (count,)."""
    chosen = np.zeros(count, bool)
    chosen[list(indices)] = True
    return chosen


def _largest_processes(names: Bytes, size: F64) -> tuple[str, ...]:
    """Return the names of the processes that most bytes are of, with their shares: of `size` bytes
    each, both of shape (objects,)."""
    processes, index = np.unique(names, return_inverse=True)
    total = np.bincount(index, size, len(processes))
    order = np.argsort(-total, kind="stable")[:_CALLERS].tolist()
    return tuple(f"{escape(processes[i])} {total[i] / total.sum():.0%}" for i in order)


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

    Devices come before the call sites that allocate on behalf of all devices, sites before
    modules, and modules before caches. A finding that consists mostly of the verdicts before it is
    left out; one that consists mostly of dismissed sites is dismissed.
    """
    managed = sum(f.grown for f, _ in findings if f.kind == Kind.DEVICE and not f.dismissed)
    guilty: set[int] = set()  # rows of sites
    innocent: dict[int, Finding] = {}
    remaining: list[Finding] = []
    for kind in (Kind.DEVICE, Kind.SITE, Kind.DRIVER, Kind.CACHE):
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
            elif _mostly(attribution, guilty):
                continue
            elif _mostly(attribution, set(innocent)):
                main = innocent[next(i for i in attribution.bytes_by_site if i in innocent)]
                reason = f"most of it is {main.name}: {main.dismissed}"
                remaining.append(
                    replace(finding, dismissed=reason, dismissal=Dismissal.DISMISSED_SITE)
                )
            else:
                remaining.append(finding)
                guilty |= sites if kind == Kind.DRIVER else set()
    # A cache can be found twice: by samples and by its exact counters.
    unique: dict[Hashable, Finding] = {}
    for finding in sorted(remaining, key=lambda f: (bool(f.dismissed), -f.growth)):
        unique.setdefault((finding.kind, finding.key), finding)
    return unique.values()


def _mostly(attribution: Attribution, sites: set[int]) -> bool:
    """Whether most of the growth was allocated by these call sites."""
    amount = sum(size for row, size in attribution.bytes_by_site.items() if row in sites)
    return amount >= _MOST * max(attribution.bytes, 1.0)
