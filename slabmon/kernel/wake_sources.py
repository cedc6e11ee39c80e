# SPDX-License-Identifier: Apache-2.0
"""What tracking that sleeps wakes by, and what of that cannot be seen on this host."""

from __future__ import annotations

from collections.abc import Mapping

from slabmon.analysis.rising import Failures, Level
from slabmon.kernel.failures import FailureCounters
from slabmon.kernel.levels import Levels
from slabmon.kernel.memory.cgroups import CgroupMemory
from slabmon.kernel.tracker import Tracker
from slabmon.model import WAKING, FeatureState, State


class WakeSources:
    """Reads amounts of memory and counters of failures. `memory` is the host's, in bytes.

    The session's feature WAKING says what cannot be seen.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.memory = tracker.memory_bytes
        self._features = tracker.features
        self._cgroups = CgroupMemory()
        self._counters = FailureCounters(self._cgroups)
        self._levels = Levels(tracker.ledger, self._cgroups, tracker.memory.uncounted)

    def levels(self, now: float) -> Mapping[str, Level]:
        """Return the amounts of memory by name, at a moment in seconds."""
        levels = self._levels.read(now)
        problems = "; ".join(filter(None, (self._counters.log.problem, self._cgroups.problem)))
        self._features[WAKING] = FeatureState(State.DEGRADED if problems else State.ON, problems)
        return levels

    def failures(self) -> Mapping[str, Failures]:
        """Return the counters of failures, by what they count."""
        return self._counters.read()
