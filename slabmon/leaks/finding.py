# SPDX-License-Identifier: Apache-2.0
"""The results of the verdict engine: findings and assessments."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from shlex import quote

from slabmon.base.activity import Activity


class Kind(StrEnum):
    """Kinds of subjects that series and findings are about.

    A DRIVER is a module's call sites together. NET is the exact net growth of a cache; a finding
    based on it is of kind CACHE, as one based on the cache's sampled survivors is. MEMORY is a
    total of /proc/meminfo, which only early findings are about. A FAMILY is all kinds of one
    kmalloc cache, a CALLER the function that asks for what a helper allocates, a CGROUP the one
    that allocates. No finding is about the descriptors that a process has open, or about a cgroup's
    OOM kills: these are evidence.
    """

    SITE = "site"
    CALLER = "caller"
    DRIVER = "driver"
    CACHE = "cache"
    FAMILY = "family"
    CGROUP = "cgroup"
    NET = "net"
    DEVICE = "device"
    MEMORY = "memory"
    DESCRIPTORS = "descriptors"
    OOM_KILLS = "oom_kills"


# The kinds of series that an object belongs to, in this order: those of earlier versions first.
MEMBERSHIPS = (Kind.SITE, Kind.DRIVER, Kind.CACHE, Kind.CALLER, Kind.FAMILY, Kind.CGROUP)
# The kinds of series that no finding is about.
EVIDENCE = (Kind.DESCRIPTORS, Kind.OOM_KILLS)


class Strength(StrEnum):
    """Strength of the evidence, by the length of the window. EARLY says nothing of a leak: growth
    of minutes that will exhaust memory (Exhaustion)."""

    EARLY = "early"
    POSSIBLE = "possible"
    LIKELY = "likely"
    STRONG = "strong"


class Dismissal(StrEnum):
    """Why significant growth is not reported as a leak, in the order in which this is checked.

    docs/verdicts.md says when each applies.
    """

    RECLAIMABLE = "reclaimable"
    DEMAND = "demand"
    BOOT = "boot"
    MODULE_LOAD = "module_load"
    BURST = "burst"
    PLATEAU = "plateau"
    WARM_UP = "warm_up"
    TURNOVER = "turnover"
    PERIODIC = "periodic"
    OVER = "over"
    NOT_CONFIRMED_BY_SAMPLES = "not_confirmed_by_samples"
    LOSSES = "losses"
    NOT_CONFIRMED_BY_COUNTERS = "not_confirmed_by_counters"
    DISMISSED_SITE = "dismissed_site"


@dataclass(frozen=True, kw_only=True)
class Exhaustion:
    """Projection of an early finding: seconds until growth at its present pace has used the
    `available` bytes of memory, and the bounds that follow from the 95 % interval of the pace.
    """

    available: float
    seconds: float
    earliest: float
    latest: float


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several suspects that grow in lockstep: bytes per hour, with a 95 % interval."""

    kind: Kind
    name: str
    growth: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Holders:
    """Who allocated the survivors of a growth: processes, cgroups and containers, with their shares
    (a process that no longer runs is said to be gone), and the stack of most of them, innermost
    frame first, with its share of the bytes."""

    processes: tuple[str, ...] = ()
    cgroups: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    stack: tuple[str, ...] = ()
    stack_share: float = 0.0


NOBODY = Holders()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Growth of one suspect: a verdict, or dismissed.

    `name` is the suspect's name in the views; `module`, `drivers`, `devices`, `caches` and `sites`
    are what the growth is attributed to, as far as that is known ("" and () if not). `growth`,
    `low` and `high` are bytes per hour with a 95 % interval, over `window` seconds, in which the
    suspect grew by `grown` bytes; it holds `live` bytes. `p` is the probability of such growth by
    chance, corrected for the number of series tested. `dismissed` is "" for a verdict, else the
    reason in words; `dismissal` is its code (None for a verdict, and where an older daemon gave
    none). `aliases` are the other names of those of `caches` that are merged with others,
    `callers` the functions that asked for most of the growth, with their shares
    (analysis/callers.py). `exhaustion` is the projection of an early finding. `holders` are those
    of its survivors; `parts` the suspects that grow in lockstep, this one included, whose growth
    it is the sum of (() if it grows alone). `orphans` is how many bytes of it nothing refers to, at
    most, by the last census (leaks/orphans.py; None: not known).
    """

    kind: Kind
    key: Hashable
    name: str
    module: str
    drivers: tuple[str, ...]
    devices: tuple[str, ...]
    caches: tuple[str, ...]
    sites: tuple[str, ...]
    strength: Strength
    growth: float
    low: float
    high: float
    window: float
    grown: float
    live: float
    p: float
    evidence_for: tuple[str, ...]
    evidence_against: tuple[str, ...]
    dismissed: str = ""
    dismissal: Dismissal | None = None
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    callers: tuple[str, ...] = ()
    exhaustion: Exhaustion | None = None
    holders: Holders = NOBODY
    parts: tuple[Part, ...] = ()
    orphans: int | None = None

    @property
    def early(self) -> bool:
        """Whether it is an early finding."""
        return self.strength == Strength.EARLY

    @property
    def exhaustion_seconds(self) -> float | None:
        """Projected seconds until memory is exhausted, None but for early findings."""
        return None if self.exhaustion is None else self.exhaustion.seconds

    @property
    def bytes_per_second(self) -> float:
        """Growth in bytes per second."""
        return self.growth / 3600

    @property
    def verdict(self) -> str:
        """The strength of the evidence, or "none" if dismissed."""
        return "none" if self.dismissed else self.strength

    @property
    def reason(self) -> str:
        """The reason for its dismissal, else the evidence for and against in one sentence."""
        against = f"; but {'; '.join(self.evidence_against)}" if self.evidence_against else ""
        return self.dismissed or "; ".join(self.evidence_for) + against

    @property
    def behind(self) -> str:
        """Module, drivers and devices: each name once."""
        names = (self.module, *self.drivers, *self.devices)
        return ", ".join(dict.fromkeys(name for name in names if name))

    @property
    def caller_text(self) -> str:
        """The callers, comma-separated."""
        return ", ".join(self.callers)

    @property
    def reproduce(self) -> str:
        """The command that shows the stacks of every such allocation from now on; "" if none
        does."""
        main = self.caches[0] if self.caches else ""
        filters = {
            Kind.SITE: f"site={self.name.partition(' [')[0]}",
            Kind.DRIVER: f"module={self.module}" if self.module else "",
            Kind.DEVICE: f"module={self.module}" if self.module else "",
            Kind.FAMILY: f"family={self.name}",
            Kind.CGROUP: f"cgroup={self.name}",
        }
        chosen = filters.get(self.kind, f"cache={main}" if main else "")
        if not chosen:
            return ""
        return f"slabmon snapshot --exact {quote(chosen)} --by stack,process --seconds 60"

    @property
    def process_text(self) -> str:
        """The processes, comma-separated."""
        return ", ".join(self.holders.processes)

    @property
    def cgroup_text(self) -> str:
        """The containers, else the cgroups, comma-separated."""
        return ", ".join(self.holders.containers or self.holders.cgroups)

    @property
    def stack_text(self) -> str:
        """The stack of most survivors, outermost frame first."""
        return ";".join(reversed(self.holders.stack))

    @property
    def part_text(self) -> str:
        """The other suspects that grow in lockstep with it."""
        return ", ".join(f"{part.kind} {part.name}" for part in self.parts[1:])

    def seconds_to(self, amount: float) -> float | None:
        """Return the projected time until it holds `amount` bytes, or None if it does not grow."""
        return max(0.0, amount - self.live) / self.growth * 3600 if self.growth > 0 else None


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """All findings at one moment.

    `observed` is for how many seconds growth has been watched, `needed` the minimum for a verdict.
    `series` counts the tests made, `left_out` the series that could not be followed because there
    are too many. `memory` is the host's, in bytes (0: not known). Nothing is watched for leaks
    unless the `activity` of tracking is awake. `exhausting` are the early findings, which are
    looked for in any case.
    """

    observed: float
    needed: float
    series: int
    left_out: int
    memory: int
    verdicts: tuple[Finding, ...] = ()
    dismissed: tuple[Finding, ...] = ()
    activity: Activity = Activity.AWAKE
    exhausting: tuple[Finding, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether growth has been watched long enough for a verdict."""
        return self.observed >= self.needed
