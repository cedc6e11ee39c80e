# SPDX-License-Identifier: Apache-2.0
"""What a column is, and the columns that several views share.

`get` is a pure function of an analysis.table.Table; nothing here computes by itself, and nothing
heavy is imported, because the command line is built from this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slabmon.base.units import (
    BYTES,
    BYTES_PER_HOUR,
    BYTES_PER_SECOND,
    COUNT,
    PER_SECOND,
    PERCENT,
    SECONDS,
)

if TYPE_CHECKING:
    from slabmon.views.table import Table

# Kinds. COUNTER: since tracking began, exact up to losses. GAUGE: a state now, exact. ESTIMATE:
# exact or sampled, as the tracking mode is; ERROR and BOUND belong to an estimate.
LABEL, FLAG, COUNTER, GAUGE, ESTIMATE, ERROR, BOUND, RATE, RATIO, GROWTH, AGE, HISTORY = (
    "label",
    "flag",
    "counter",
    "gauge",
    "estimate",
    "error",
    "bound",
    "rate",
    "ratio",
    "growth",
    "age",
    "history",
)


@dataclass(frozen=True)
class Column:
    """`unit` is "" for text and yes or no; `help` one sentence; `title` a heading that is short
    (default: the name)."""

    name: str
    unit: str
    kind: str
    help: str
    get: Callable[[Table], Any]
    title: str = ""

    @property
    def heading(self) -> str:
        """What stands above it in a table."""
        return self.title or self.name

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.unit in (COUNT, BYTES, BYTES_PER_HOUR)

    @property
    def past(self) -> bool:
        """Whether it needs an earlier snapshot."""
        return self.kind in (GROWTH, HISTORY)


def attribute(
    name: str, unit: str, kind: str, help: str, path: str = "", title: str = ""
) -> Column:
    """A column that is an attribute of the rows (default: of its own name)."""
    return Column(name, unit, kind, help, lambda table: table.now(path or name), title)


def label(name: str, help: str, path: str = "", title: str = "") -> Column:
    """Text that names a row."""
    return attribute(name, "", LABEL, help, path, title)


def rate(counter: str, unit: str, help: str, title: str) -> Column:
    """Growth of a counter per second."""
    return Column(
        f"{counter}_per_second", unit, RATE, help, lambda table: table.rate(counter), title
    )


ALLOCS = attribute("allocs", COUNT, COUNTER, "Allocations since tracking began.")
FREES = attribute("frees", COUNT, COUNTER, "Frees since tracking began.")
FAILED = attribute("failed", COUNT, COUNTER, "Allocations that failed since tracking began.")
REQUESTED = attribute(
    "requested_bytes", BYTES, COUNTER, "Bytes asked for since tracking began.", title="requested"
)
ALLOCATED = attribute(
    "allocated_bytes",
    BYTES,
    COUNTER,
    "Bytes that the allocations since tracking began occupied.",
    title="allocated",
)
FREED = attribute("freed_bytes", BYTES, COUNTER, "Bytes freed since tracking began.", title="freed")

LIVE_BYTES = attribute(
    "live_bytes",
    BYTES,
    ESTIMATE,
    "Bytes allocated since tracking began and not freed.",
    "live.bytes",
    "live",
)
LIVE_ERROR = attribute(
    "live_stderr_bytes",
    BYTES,
    ERROR,
    "One standard error of live_bytes; 0 where it is exact or has no sample.",
    "live.stderr_bytes",
    "±",
)
LIVE_OBJECTS = attribute(
    "live_objects",
    COUNT,
    ESTIMATE,
    "Objects allocated since tracking began and not freed.",
    "live.objects",
    "objects",
)
LIVE = (
    LIVE_OBJECTS,
    LIVE_BYTES,
    LIVE_ERROR,
    attribute(
        "live_low_bytes",
        BYTES,
        BOUND,
        "Lower end of live_bytes' 95 % interval.",
        "live.low_bytes",
        "at least",
    ),
    attribute(
        "live_high_bytes",
        BYTES,
        BOUND,
        "Upper end of live_bytes' 95 % interval.",
        "live.high_bytes",
        "at most",
    ),
)

ALLOC_RATE = rate("allocs", PER_SECOND, "Allocations per second of the last interval.", "allocs/s")
FREE_RATE = rate("frees", PER_SECOND, "Frees per second of the last interval.", "frees/s")
FAIL_RATE = rate(
    "failed", PER_SECOND, "Failed allocations per second of the last interval.", "failed/s"
)
BYTE_RATE = rate(
    "allocated_bytes",
    BYTES_PER_SECOND,
    "Bytes allocated per second of the last interval.",
    "bytes/s",
)

WASTE = (
    Column(
        "waste_bytes",
        BYTES,
        COUNTER,
        "Bytes allocated beyond those asked for, since tracking began.",
        lambda t: t.now("allocated_bytes") - t.now("requested_bytes"),
        "wasted",
    ),
    Column(
        "waste_ratio",
        PERCENT,
        RATIO,
        "Share of the allocated bytes that nobody asked for.",
        lambda t: t.quotient(
            t.now("allocated_bytes") - t.now("requested_bytes"), t.now("allocated_bytes")
        ),
        "waste",
    ),
)

AGES = (
    Column(
        "oldest_seconds",
        SECONDS,
        AGE,
        "Age of the oldest tracked object that is still live; an untracked one can be older.",
        lambda t: t.oldest(),
        "oldest",
    ),
    Column(
        "age_p90_seconds",
        SECONDS,
        AGE,
        "Age that 90 % of the live objects do not exceed, estimated from tracked ones.",
        lambda t: t.most_ages(),
        "p90 age",
    ),
)

OBSERVABLE = Column(
    "frees_observable",
    "",
    FLAG,
    "Whether all frees can be seen; if not, live figures are upper bounds and no sign of a leak.",
    lambda t: t.observable(),
    "frees seen",
)


def growth(figure: str) -> tuple[Column, ...]:
    """Growth and history of the figure that a view's trail keeps."""
    return (
        Column(
            "growth_bytes_per_hour",
            BYTES_PER_HOUR,
            GROWTH,
            f"Growth of {figure} over the window (at most 10 minutes), per hour.",
            lambda t: t.growth(),
            "growth/h",
        ),
        Column(
            "history",
            BYTES,
            HISTORY,
            f"{figure} over the window, oldest first; ordered by growth.",
            lambda t: t.growth(),
            "trend",
        ),
    )


GROWTH_ERROR = Column(
    "growth_stderr_bytes_per_hour",
    BYTES_PER_HOUR,
    GROWTH,
    "One standard error of growth_bytes_per_hour, at most; 0 where exact or without samples.",
    lambda t: t.growth_error(),
    "±growth",
)
