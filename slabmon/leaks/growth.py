# SPDX-License-Identifier: Apache-2.0
"""The input of one assessment, and the significant growth that it shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from slabmon.base.arrays import F64
from slabmon.leaks.attribution import Attribution
from slabmon.leaks.batches import Batches
from slabmon.leaks.drift import GrowthRate
from slabmon.leaks.series import Stretch, Subject
from slabmon.model import Snapshot


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that one assessment is based on.

    `subjects` name the series, by row; `stretches` hold their points, the shortest scale first.
    `modules` says when each module was first seen (tracking seconds, -inf: from the beginning).
    `seconds` is the shortest window for a verdict.
    """

    now: Snapshot
    subjects: list[Subject]
    stretches: list[Stretch]
    modules: dict[str, float]
    seconds: float

    @cached_property
    def rows(self) -> dict[Subject, int]:
        """Row of each series, by subject."""
        return {subject: row for row, subject in enumerate(self.subjects)}


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Significant growth of one series, `row`, over one stretch.

    `levels` are the bytes at the borders of equal blocks, `mean` the growth per block in bytes,
    `p` its probability by chance, corrected for the number of tests. `batches`, if it came in a few
    that are far apart, are what it is judged by instead.
    """

    row: int
    stretch: Stretch
    levels: F64  # (blocks + 1,)
    mean: float
    p: float
    rate: GrowthRate
    batches: Batches | None = None

    @property
    def total(self) -> float:
        """Bytes grown over all blocks."""
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


@dataclass(frozen=True)
class Established:
    """Significant growth of one suspect, and what it is composed of."""

    growth: Growth
    attribution: Attribution
