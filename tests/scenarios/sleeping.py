# SPDX-License-Identifier: Apache-2.0
"""A host whose tracking sleeps until something grows (tracking.when = "auto"): the daemon's own
rules decide, on the amounts of memory of the synthetic host every ten seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from slabmon.analysis.rising import PERIOD_SECONDS, Failures, Level
from slabmon.base.activity import Activity, Stage
from slabmon.daemon.waking import Waking
from slabmon.kernel.levels import CACHE_PREFIX
from slabmon.kernel.settings import Settings, When
from slabmon.model import Live, Snapshot, Tracked
from slabmon.runtime.event_loop import EventLoop
from tests.scenarios.host import Simulation
from tests.support.children import ManualClock

_RECLAIMABLE = 256  # as in slabmon/kernel/levels.py


@dataclass
class _Tracking:
    """The session, as far as it wakes and sleeps. `light` are the times in which nearly nothing was
    sampled."""

    clock: ManualClock
    awake: bool = False
    stage: Stage = Stage.SAMPLED
    wakes: int = 0
    woke: float = 0.0
    slept: float = 0.0
    asleep: float = 0.0
    light: list[tuple[float, float]] = field(default_factory=list)
    _light_since: float | None = None

    def wake(self, reason: str) -> None:
        self.awake, self.woke = True, self.clock.now
        self.asleep += self.woke - self.slept
        self.wakes += 1
        self._follow()

    def sleep(self) -> None:
        if self.awake:
            self.awake, self.slept = False, self.clock.now
            self._follow()

    def set_stage(self, stage: Stage) -> None:
        self.stage = stage
        self._follow()

    def watch_pages(self, watched: bool) -> None:
        """Verdicts are of slab memory."""

    def _follow(self) -> None:
        light = self.awake and self.stage == Stage.LIGHT
        if light and self._light_since is None:
            self._light_since = self.clock.now
        elif not light and self._light_since is not None:
            self.light.append((self._light_since, self.clock.now))
            self._light_since = None

    def unsampled(self) -> list[tuple[float, float]]:
        since = self._light_since
        return [*self.light, *([] if since is None else [(since, np.inf)])]


class SleepingHost:
    """Snapshots of a world whose tracking sleeps and wakes."""

    def __init__(self, simulation: Simulation, memory: int) -> None:
        self.memory = memory
        self._simulation = simulation
        self._clock = ManualClock()
        self._clock.now = 0.0
        self._loop = EventLoop(self._clock)
        self.tracking = _Tracking(self._clock)
        self._waking = Waking(self._loop, self.tracking, Settings(when=When.AUTO), self)

    def levels(self, now: float) -> Mapping[str, Level]:
        """The amounts that a daemon watches, as far as a world has them."""
        levels = {
            f"{CACHE_PREFIX}{name}": Level(size, _RECLAIMABLE if reclaimable else 1)
            for name, (size, reclaimable) in self._simulation.slab_bytes(now).items()
        }
        for device in self._simulation.devices(now):
            levels[f"device {device.bus}/{device.name}"] = Level(device.managed_bytes)
        return levels

    def failures(self) -> Mapping[str, Failures]:
        """Nothing fails in these worlds."""
        return {}

    def request(self) -> None:
        """Growth is being judged."""
        self._waking.request()

    def run(self, end: float, step: float) -> Iterator[Snapshot]:
        """A snapshot every `step` seconds."""
        try:
            for t in np.arange(step, end + step / 2, step).tolist():
                self._pass(t)
                yield self._seen(self._simulation.at(t), t)
        finally:
            self._loop.close()

    def _pass(self, until: float) -> None:
        while self._clock.now + PERIOD_SECONDS <= until:
            self._clock.now += PERIOD_SECONDS
            self._loop.step(0)
        self._clock.now = until

    def _seen(self, whole: Snapshot, t: float) -> Snapshot:
        """What a session that sleeps now and then knows of this snapshot."""
        state = self.tracking
        asleep = state.asleep + (0 if state.awake else t - state.slept)
        tracking = replace(
            whole.tracking,
            activity=Activity.AWAKE if state.awake else Activity.ASLEEP,
            asleep=asleep,
            wakes=state.wakes,
            stage=state.stage,
        )
        if not state.awake:
            # Counters, which stand still, are of no use to anybody now.
            caches = tuple(replace(cache, live=Live()) for cache in whole.caches)
            nothing = _chosen(whole.tracked, np.zeros(len(whole.tracked.born_ns), bool))
            return replace(whole, tracking=tracking, caches=caches, tracked=nothing)
        born = t - whole.tracked.age
        mask = born > state.woke
        for begin, end in state.unsampled():
            mask &= (born < begin) | (born > end)
        return replace(whole, tracking=tracking, tracked=_chosen(whole.tracked, mask))


def _chosen(tracked: Tracked, mask: np.ndarray) -> Tracked:
    columns = {
        name: column[mask]
        for name, column in vars(tracked).items()
        if isinstance(column, np.ndarray)
    }
    return replace(tracked, **columns)
