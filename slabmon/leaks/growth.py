# SPDX-License-Identifier: Apache-2.0
"""What there is to judge by, and growth that was established."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from slabmon.leaks.drift import Pace
from slabmon.leaks.series import Stretch, Subject
from slabmon.model import Snapshot


@dataclass(frozen=True)
class Case:
    """All that there is to judge by. `subjects` name the series, `stretches` hold them, the
    shortest scale first; `modules` says when each module was first seen. `seconds` is the shortest
    window for a verdict. `claimed` is filled on the way:
    growth of caches, bytes per hour, that accepted call sites account for."""

    now: Snapshot
    subjects: list[Subject]
    stretches: list[Stretch]
    modules: dict[str, float]
    seconds: float
    claimed: dict[str, float] = field(default_factory=dict)


class Grown(NamedTuple):
    """Established growth of one series over one stretch."""

    row: int
    stretch: Stretch
    levels: np.ndarray
    mean: float
    p: float
    pace: Pace

    @property
    def total(self) -> float:
        """Bytes grown, over all blocks."""
        return float(self.levels[-1] - self.levels[0])

    @property
    def turnover(self) -> float:
        """Share of the old bytes that was freed."""
        gone = self.stretch.gone[:, self.row]
        freed = float(gone[-1] - gone[0])
        return freed / (freed + self.total)

    @property
    def hours(self) -> float:
        """Length of a block."""
        return self.stretch.seconds / (len(self.levels) - 1) / 3600
