# SPDX-License-Identifier: Apache-2.0
"""Columns of the views, and those that several views share.

`Column.get` is a pure function of a table (see TableFigures). Nothing heavy is imported here: the
command line is built from the views.

A *path* names an attribute of a view's rows: `live.bytes` is row.live.bytes, and
`slabinfo?active_objects` is row.slabinfo.active_objects or, where row.slabinfo is None, a missing
value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

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
    from slabmon.base.arrays import F64, Bool, Values


ALIASES = "aliases"


class Kind(StrEnum):
    """How the figures of a column are obtained, and therefore how they may be treated."""

    LABEL = "label"  # names or describes the row
    FLAG = "flag"  # yes or no
    COUNTER = "counter"  # since tracking began, exact up to losses
    GAUGE = "gauge"  # a present state, exact
    ESTIMATE = "estimate"  # exact or sampled, as the tracking mode is
    ERROR = "error"  # standard error of an estimate
    BOUND = "bound"  # end of the confidence interval of an estimate
    RATE = "rate"  # per second, of the last interval
    RATIO = "ratio"  # a quotient of two figures
    GROWTH = "growth"  # change over the window, per hour
    AGE = "age"  # seconds since an allocation
    HISTORY = "history"  # a list: the figure over the window


class TableFigures(Protocol):
    """What `Column.get` may ask of a table. Arrays have one element per row."""

    def now(self, path: str) -> Values:
        """Return an attribute of the rows."""
        ...

    def values(self, name: str) -> Values:
        """Return another column."""
        ...

    def label(self, position: int) -> Values:
        """Return one of the dimensions that grouped rows are labelled with."""
        ...

    def aliases(self, names: Values) -> Values:
        """Return the other names of caches as text, None for those without."""
        ...

    def workloads(self, cgroups: Values, attribute: str) -> Values:
        """Return an attribute of what runs in these cgroups, None where it is not known."""
        ...

    def retained(self) -> F64:
        """Return the bytes that each device retained at the last census, NaN where not known."""
        ...

    def callers(self) -> Values:
        """Return the caller that holds most of each row, None where none is known."""
        ...

    def contexts(self) -> Values:
        """Return the context that allocated most of each row, None where none is known."""
        ...

    def served(self) -> Values:
        """Return the device that most of each row is for, None where none is known."""
        ...

    def rate(self, path: str) -> F64:
        """Return a counter's increase per second."""
        ...

    def quotient(self, part: Values, whole: Values, digits: int = ...) -> F64:
        """Return part / whole, NaN where whole is 0."""
        ...

    def growth(self) -> F64:
        """Return the growth of the view's figure, per hour."""
        ...

    def growth_error(self) -> F64:
        """Return the standard error of growth()."""
        ...

    def oldest(self) -> F64:
        """Return the age of the oldest tracked object, seconds."""
        ...

    def p90_age(self) -> F64:
        """Return the 90th percentile of the ages, seconds."""
        ...

    def observable(self) -> Bool:
        """Return whether all frees are observed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a view.

    `name` is the key in every output, `unit` one of base.units ("" for text and flags), `help` one
    sentence, `title` a short heading for tables (default: the name). A `wide` column holds
    sentences: on a screen it takes the rest of the line. `depth` is the path of a number: how
    deep a row is below the one before it, by which text is indented. Words of a filter are looked
    for in labels that are `searched`; what the others say is also in one of these.
    """

    name: str
    unit: str = ""
    kind: Kind
    help: str
    get: Callable[[TableFigures], Values]
    title: str = ""
    wide: bool = False
    depth: str = ""
    searched: bool = True

    @property
    def heading(self) -> str:
        """The heading of the column in a table."""
        return self.title or self.name

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.unit in (COUNT, BYTES, BYTES_PER_HOUR)

    @property
    def past(self) -> bool:
        """Whether it needs an earlier snapshot."""
        return self.kind in (Kind.GROWTH, Kind.HISTORY)


def attribute(
    name: str, *, kind: Kind, help: str, unit: str = "", path: str = "", title: str = ""
) -> Column:
    """Return a column that shows an attribute of the rows: `path`, by default the name."""
    return Column(
        name=name,
        unit=unit,
        kind=kind,
        help=help,
        get=lambda table: table.now(path or name),
        title=title,
    )


def label(name: str, help: str, *, path: str = "", title: str = "") -> Column:
    """Return a column with text that names or describes a row."""
    return attribute(name, kind=Kind.LABEL, help=help, path=path, title=title)


def device_labels(path: str = "") -> tuple[Column, Column, Column]:
    """Return bus, name and driver of the device that is at a path of the rows; "": they are it."""
    return (
        label("bus", "Bus of the device, else its class.", path=f"{path}bus"),
        label("name", "Name of the device in sysfs.", path=f"{path}name"),
        label("driver", "Driver bound to the device.", path=f"{path}driver"),
    )


DRIVER_MODULE = label("module", "Module of the driver; none: built in.")


def dimension(position: int, name: str, help: str = "", *, title: str = "") -> Column:
    """Return a column with one of the labels of grouped rows."""
    return Column(
        name=name,
        kind=Kind.LABEL,
        help=help or f"Dimension {name} of the tracked objects.",
        get=lambda table: table.label(position),
        title=title,
    )


def aliases(names: str | int) -> Column:
    """Return a column with the other names of merged caches, whose names are at a path or, in
    grouped rows, at the position of a dimension."""

    def get(table: TableFigures) -> Values:
        return table.aliases(table.label(names) if isinstance(names, int) else table.now(names))

    return Column(
        name=ALIASES,
        kind=Kind.LABEL,
        help="Other names of the cache: the kernel merges caches whose objects are alike.",
        get=get,
    )


CALLER = Column(
    name="caller",
    kind=Kind.LABEL,
    help="First function on the stack that is no helper (`kmemdup`, `__alloc_skb`, `alloc_inode`, "
    "...), of most of the live memory; its share, if it is not all.",
    get=lambda t: t.callers(),
)

CONTEXT = Column(
    name="context",
    kind=Kind.LABEL,
    help="What allocated most of the live memory: task, softirq, irq (an interrupt) or nmi; its "
    "share, if it is not all.",
    get=lambda t: t.contexts(),
)

SERVED = Column(
    name="device",
    kind=Kind.LABEL,
    help="Device that most of the live memory was allocated for, of that of which it is known: its "
    "driver probed it just then, or (likely) kernel stacks lead to it; its share, if it is not "
    "all.",
    get=lambda t: t.served(),
)

RETAINED = Column(
    name="retained_bytes",
    unit=BYTES,
    kind=Kind.GAUGE,
    help="Bytes of slab memory that only it and the devices below it lead to, managed or not, at "
    "the last census that looked for orphans.",
    get=lambda t: t.retained(),
    title="retained",
)


def ratio(name: str, part: str, whole: str, *, title: str) -> Column:
    """Return a column with the quotient of two columns."""
    return Column(
        name=name,
        unit=PERCENT,
        kind=Kind.RATIO,
        help=f"{part} / {whole}.",
        get=lambda table: table.quotient(table.values(part), table.values(whole)),
        title=title,
    )


SHARE = Column(
    name="share",
    unit=PERCENT,
    kind=Kind.RATIO,
    help="Share of the host's memory.",
    get=lambda table: table.quotient(table.values("bytes"), table.now("total_bytes")),
)


def rate(counter: str, *, unit: str, help: str, title: str) -> Column:
    """Return a column with the increase of a counter per second."""
    return Column(
        name=f"{counter}_per_second",
        unit=unit,
        kind=Kind.RATE,
        help=help,
        get=lambda table: table.rate(counter),
        title=title,
    )


ALLOCS = attribute(
    "allocs", unit=COUNT, kind=Kind.COUNTER, help="Allocations since tracking began."
)
FREES = attribute("frees", unit=COUNT, kind=Kind.COUNTER, help="Frees since tracking began.")
FAILED = attribute(
    "failed", unit=COUNT, kind=Kind.COUNTER, help="Allocations that failed since tracking began."
)
REQUESTED = attribute(
    "requested_bytes",
    unit=BYTES,
    kind=Kind.COUNTER,
    help="Bytes requested since tracking began.",
    title="requested",
)
ALLOCATED = attribute(
    "allocated_bytes",
    unit=BYTES,
    kind=Kind.COUNTER,
    help="Bytes occupied by the allocations since tracking began.",
    title="allocated",
)
FREED = attribute(
    "freed_bytes",
    unit=BYTES,
    kind=Kind.COUNTER,
    help="Bytes freed since tracking began.",
    title="freed",
)

HELD = attribute(
    "held_bytes",
    unit=BYTES,
    kind=Kind.GAUGE,
    help="Memory that it holds, earlier objects included: of all slabs (/proc/slabinfo) or, where "
    "that does not list it, live_bytes.",
    title="held",
)
LIVE_BYTES = attribute(
    "live_bytes",
    unit=BYTES,
    kind=Kind.ESTIMATE,
    help="Bytes allocated since tracking began and not yet freed.",
    path="live.bytes",
    title="live",
)
LIVE_ERROR = attribute(
    "live_stderr_bytes",
    unit=BYTES,
    kind=Kind.ERROR,
    help="Standard error of live_bytes; 0 if it is exact or has no samples.",
    path="live.stderr_bytes",
    title="±",
)
LIVE_OBJECTS = attribute(
    "live_objects",
    unit=COUNT,
    kind=Kind.ESTIMATE,
    help="Objects allocated since tracking began and not yet freed.",
    path="live.objects",
    title="objects",
)
LIVE = (
    LIVE_OBJECTS,
    LIVE_BYTES,
    LIVE_ERROR,
    attribute(
        "live_low_bytes",
        unit=BYTES,
        kind=Kind.BOUND,
        help="Lower bound of the 95 % confidence interval of live_bytes.",
        path="live.low_bytes",
        title="at least",
    ),
    attribute(
        "live_high_bytes",
        unit=BYTES,
        kind=Kind.BOUND,
        help="Upper bound of the 95 % confidence interval of live_bytes.",
        path="live.high_bytes",
        title="at most",
    ),
)

ALLOC_RATE = rate(
    "allocs", unit=PER_SECOND, help="Allocations per second of the last interval.", title="allocs/s"
)
FREE_RATE = rate(
    "frees", unit=PER_SECOND, help="Frees per second of the last interval.", title="frees/s"
)
FAIL_RATE = rate(
    "failed",
    unit=PER_SECOND,
    help="Failed allocations per second of the last interval.",
    title="failed/s",
)
BYTE_RATE = rate(
    "allocated_bytes",
    unit=BYTES_PER_SECOND,
    help="Bytes allocated per second of the last interval.",
    title="bytes/s",
)

WASTE = (
    Column(
        name="waste_bytes",
        unit=BYTES,
        kind=Kind.COUNTER,
        help="Allocated minus requested bytes, since tracking began.",
        get=lambda t: t.now("allocated_bytes") - t.now("requested_bytes"),
        title="wasted",
    ),
    Column(
        name="waste_ratio",
        unit=PERCENT,
        kind=Kind.RATIO,
        help="Share of the allocated bytes that was not requested.",
        get=lambda t: t.quotient(
            t.now("allocated_bytes") - t.now("requested_bytes"), t.now("allocated_bytes")
        ),
        title="waste",
    ),
)

AGES = (
    Column(
        name="oldest_seconds",
        unit=SECONDS,
        kind=Kind.AGE,
        help="Age of the oldest live tracked object; an untracked one may be older.",
        get=lambda t: t.oldest(),
        title="oldest",
    ),
    Column(
        name="age_p90_seconds",
        unit=SECONDS,
        kind=Kind.AGE,
        help="90th percentile of the ages of live objects, estimated from the tracked ones.",
        get=lambda t: t.p90_age(),
        title="p90 age",
    ),
)

OBSERVABLE = Column(
    name="frees_observable",
    kind=Kind.FLAG,
    help="Whether every free is observed; if not, live figures are mere upper bounds.",
    get=lambda t: t.observable(),
    title="frees seen",
)


def growth(figure: str) -> tuple[Column, ...]:
    """Return the columns for growth and history of a view's figure."""
    return (
        Column(
            name="growth_bytes_per_hour",
            unit=BYTES_PER_HOUR,
            kind=Kind.GROWTH,
            help=f"Growth of {figure} over the window (at most 10 minutes), per hour.",
            get=lambda t: t.growth(),
            title="growth/h",
        ),
        Column(
            name="history",
            unit=BYTES,
            kind=Kind.HISTORY,
            help=f"{figure} over the window, oldest first; ordered by growth.",
            get=lambda t: t.growth(),
            title="trend",
        ),
    )


GROWTH_ERROR = Column(
    name="growth_stderr_bytes_per_hour",
    unit=BYTES_PER_HOUR,
    kind=Kind.GROWTH,
    help="Upper bound of the standard error of growth_bytes_per_hour; 0 if exact or not sampled.",
    get=lambda t: t.growth_error(),
    title="±growth",
)
