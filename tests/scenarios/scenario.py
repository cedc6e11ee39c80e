# SPDX-License-Identifier: Apache-2.0
"""What a scenario is: a world, and which suspects in it are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.scenarios.host import Rng, Stream, World

Truth = frozenset[tuple[str, str]]
NOTHING: Truth = frozenset()


@dataclass(frozen=True)
class Scenario:
    """A world, the right suspects (kind and name; any of them is a hit), what leaks from when on
    at how many bytes per hour (0: nothing, or not constant), and for how long it is watched.
    `exhausts` are the right early findings, `exhausts_per_hour` their true growth. `together` are
    the suspects that have to be one finding in the end, with its parts."""

    world: World
    truth: Truth
    end: float
    step: float = 30.0
    starts: float = 0.0
    per_hour: float = 0.0
    exhausts: Truth = NOTHING
    exhausts_per_hour: float = 0.0
    together: Truth = NOTHING


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def suspects(stream: Stream, *more: tuple[str, str]) -> Truth:
    symbol, offset, module = stream.site
    label = f"{symbol}+{offset:#x}" + (f" [{module}]" if module else "")
    found = {("site", label), ("cache", stream.cache), *more}
    return frozenset(found | {("driver", module)} if module else found)
