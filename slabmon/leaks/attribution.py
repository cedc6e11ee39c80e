# SPDX-License-Identifier: Apache-2.0
"""What is behind growth: call sites, caches, module, drivers, devices; and what explains what."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from slabmon.analysis.sampling import probability
from slabmon.leaks.finding import CACHE, DEVICE, DRIVER, NET, SITE, Finding
from slabmon.leaks.series import device_key, site_key
from slabmon.model import Cache, Snapshot

_NAMED = 8
# Functions that allocate managed memory on behalf of drivers.
_DEVRES = ("devm_", "alloc_dr", "__devres_alloc", "devres_")
_MOST = 0.5


@dataclass(frozen=True)
class Behind:
    """`survivors` are the objects of the growth that are live: grown old in the window;
    `bytes_by_cache` and `bytes_by_site` (rows of the snapshot) what they stand for; `objects`
    likewise, `samples` how many were looked at. `live` is what the suspect holds in all."""

    name: str
    live: float
    module: str = ""
    drivers: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    samples: int = 0
    objects: float = 0.0
    bytes_by_cache: dict[int, float] = field(default_factory=dict)
    bytes_by_site: dict[int, float] = field(default_factory=dict)
    oldest: float = 0.0

    @property
    def bytes(self) -> float:
        """What the survivors stand for."""
        return sum(self.bytes_by_cache.values())


def behind(now: Snapshot, kind: str, key: Hashable, start: float, age: float) -> Behind | None:
    """What is behind a suspect that grew since `start` (tracking seconds) by objects that outlived
    `age`. None if it is not there any more."""
    if kind == DEVICE:
        device = next((d for d in now.devices if device_key(d) == key), None)
        if device is None:
            return None
        return Behind(
            f"{device.bus}:{device.name}",
            device.managed_bytes,
            device.module or "",
            (device.driver,) if device.driver else (),
            (device.name,),
            tuple(list(device.slab_by_cache)[:_NAMED]),
        )
    sites: set[int] | None = None
    caches: set[int] | None = None
    if kind in (SITE, DRIVER):
        sites = {
            i
            for i, site in enumerate(now.sites)
            if (site_key(site) if kind == SITE else site.owner) == key
        }
        if not sites:
            return None
        some = now.sites[min(sites)]
        name, module = some.full_label if kind == SITE else some.owner[1], some.module or ""
        live = float(sum(now.sites[i].live.bytes for i in sites))
    else:
        name, module = str(key[0] if isinstance(key, tuple) else key), ""
        caches = {i for i, cache in enumerate(now.caches) if cache.name == name}
        if not caches:
            return None
        live = float(sum(now.caches[i].live.bytes for i in caches))
    found = _survivors(now, sites, caches, start, age)
    if kind in (CACHE, NET):
        owners = {now.sites[i].module or "" for i in found.bytes_by_site}
        module = owners.pop() if len(owners) == 1 else ""
    drivers, devices = _devices(now, module)
    return replace(found, name=name, live=live, module=module, drivers=drivers, devices=devices)


def _survivors(
    now: Snapshot, sites: set[int] | None, caches: set[int] | None, start: float, age: float
) -> Behind:
    tracked = now.tracked
    ages = tracked.age
    mask = (ages >= age) & (ages <= now.tracking.seconds - start + age)
    if sites is not None:
        mask &= np.isin(tracked.site, list(sites))
    if caches is not None:
        mask &= np.isin(tracked.cache, list(caches))
    which = np.flatnonzero(mask)
    weight = 1 / probability(tracked.bytes[which].astype(float), tracked.interval[which])
    size = tracked.bytes[which] * weight
    by_cache = np.bincount(tracked.cache[which], size, len(now.caches))
    by_site = np.bincount(tracked.site[which], size, len(now.sites))
    bytes_by_cache, bytes_by_site = (
        {i: float(column[i]) for i in np.argsort(-column, kind="stable").tolist() if column[i]}
        for column in (by_cache, by_site)
    )
    return Behind(
        "",
        0.0,
        samples=len(which),
        objects=float(weight.sum()),
        bytes_by_cache=bytes_by_cache,
        bytes_by_site=bytes_by_site,
        caches=tuple(now.caches[i].name for i in list(bytes_by_cache)[:_NAMED]),
        sites=tuple(now.sites[i].full_label for i in list(bytes_by_site)[:_NAMED]),
        oldest=float(ages[which].max(initial=0.0)),
    )


def _devices(now: Snapshot, module: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Drivers of a module and the devices they are bound to."""
    mine = [device for device in now.devices if module and device.module == module]
    drivers = sorted({device.driver for device in mine if device.driver})
    return tuple(drivers), tuple(device.name for device in mine[:_NAMED])


def share(about: Behind, now: Snapshot, of: str) -> float:
    """Share of the survivors' bytes that lies in caches with this property."""
    chosen: float = sum(
        size for i, size in about.bytes_by_cache.items() if getattr(now.caches[i], of)
    )
    return chosen / about.bytes if about.bytes else 0.0


def cache_of(now: Snapshot, name: str) -> Cache:
    """The cache of this name, which is there."""
    return next(cache for cache in now.caches if cache.name == name)


def explained(findings: list[tuple[Finding, Behind]]) -> Iterable[Finding]:
    """The findings that matter, the fastest growth first. Devices come before the call sites that
    allocate on behalf of all devices, sites before modules, and these before caches: what is
    explained by verdicts about the one is left out of the other, and what is mostly growth that
    was dismissed there is dismissed here."""
    managed = sum(f.grown for f, _ in findings if f.kind == DEVICE and not f.dismissed)
    guilty: set[int] = set()
    innocent: dict[int, Finding] = {}
    found: list[Finding] = []
    for kind in (DEVICE, SITE, DRIVER, CACHE):
        for finding, about in findings:
            if finding.kind != kind:
                continue
            sites = set(about.bytes_by_site)
            by_guilty, by_innocent = (
                sum(about.bytes_by_site[i] for i in sites & of) >= _MOST * max(about.bytes, 1.0)
                for of in (guilty, set(innocent))
            )
            if finding.dismissed or kind == DEVICE:
                found.append(finding)
                if kind == SITE:
                    innocent |= dict.fromkeys(sites, finding)
            elif kind == SITE:
                guilty |= sites
                if not (finding.name.startswith(_DEVRES) and managed >= _MOST * finding.grown):
                    found.append(finding)
            elif by_guilty:
                continue
            elif by_innocent:
                main = innocent[next(i for i in about.bytes_by_site if i in innocent)]
                found.append(
                    replace(finding, dismissed=f"most of it is {main.name}: {main.dismissed}")
                )
            else:
                found.append(finding)
                guilty |= sites if kind == DRIVER else set()
    # A cache can be found twice: by samples and by its exact counters.
    unique: dict[Hashable, Finding] = {}
    for finding in sorted(found, key=lambda f: (bool(f.dismissed), -f.growth)):
        unique.setdefault((finding.kind, finding.key), finding)
    return unique.values()
