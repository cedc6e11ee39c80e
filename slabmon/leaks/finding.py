# SPDX-License-Identifier: Apache-2.0
"""What the verdict engine says."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

SITE, DRIVER, CACHE, NET, DEVICE = "site", "driver", "cache", "net", "device"
POSSIBLE, LIKELY, STRONG = "possible", "likely", "strong"
STRENGTHS = (POSSIBLE, LIKELY, STRONG)


@dataclass(frozen=True)
class Finding:
    """Growth of one suspect: a verdict, or, with `dismissed` saying why not, none.

    `kind` is site, driver (a module's call sites together), cache or device, `name` as in the
    views; `module`, `drivers`, `devices`, `caches` and `sites` are what is behind it, as far as
    that is known ("" and () if not). `growth`, `low` and `high` are bytes per hour with a 95 %
    interval, over `window` seconds, in which it grew by `grown` bytes; `live` is what it holds.
    `p` is the probability of such growth by chance, corrected for the number of series tested.
    """

    kind: str
    key: Hashable
    name: str
    module: str
    drivers: tuple[str, ...]
    devices: tuple[str, ...]
    caches: tuple[str, ...]
    sites: tuple[str, ...]
    strength: str
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

    @property
    def bytes_per_second(self) -> float:
        """Growth per second."""
        return self.growth / 3600

    @property
    def verdict(self) -> str:
        """The strength of the evidence, or that it is none."""
        return "none" if self.dismissed else self.strength

    @property
    def reason(self) -> str:
        """What dismissed it, else the evidence for and against in one sentence."""
        against = f"; but {'; '.join(self.evidence_against)}" if self.evidence_against else ""
        return self.dismissed or "; ".join(self.evidence_for) + against

    @property
    def behind(self) -> str:
        """Module, drivers, devices: each name once."""
        names = (self.module, *self.drivers, *self.devices)
        return ", ".join(dict.fromkeys(name for name in names if name))

    def seconds_to(self, amount: float) -> float | None:
        """Projected time until it holds this many bytes; None if it does not grow."""
        return max(0.0, amount - self.live) / self.growth * 3600 if self.growth > 0 else None


@dataclass(frozen=True)
class Assessment:
    """What can be said at one moment. `observed` is how long, in seconds, this has been watched,
    `needed` the least for any verdict; `series` how many were tested, `left_out` how many could
    not be for want of room, `memory` the host's in bytes (0: not known)."""

    observed: float
    needed: float
    series: int
    left_out: int
    memory: int
    verdicts: tuple[Finding, ...] = ()
    dismissed: tuple[Finding, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether it was watched long enough for a verdict."""
        return self.observed >= self.needed
