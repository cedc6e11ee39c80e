"""The views and their columns: one definition for the table, CSV and whatever else shows rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importing them costs a tenth of a second, which the command line has not
    from slabmon.analysis.grouping import Group
    from slabmon.model import Snapshot

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """`unit` is "" for text, "count", "bytes" or "seconds"."""

    name: str
    unit: str
    get: Callable[[Any], Value]


@dataclass(frozen=True)
class View:
    """`sort` is the column a table is ordered by, largest first ("" keeps the rows' order)."""

    name: str
    rows: Callable[[Snapshot], Iterable[Any]]
    columns: tuple[Column, ...]
    sort: str = ""


def _text(name: str, attribute: str | None = None) -> Column:
    return Column(name, "", lambda row: getattr(row, attribute or name))


def _count(name: str) -> Column:
    return Column(name, "count", lambda row: getattr(row, name))


def _bytes(name: str) -> Column:
    return Column(name, "bytes", lambda row: getattr(row, name))


LIVE = (
    Column("live_objects", "count", lambda row: row.live.objects),
    Column("live_bytes", "bytes", lambda row: row.live.bytes),
    Column("live_stderr_bytes", "bytes", lambda row: row.live.stderr_bytes),
    Column("live_low_bytes", "bytes", lambda row: row.live.low_bytes),
    Column("live_high_bytes", "bytes", lambda row: row.live.high_bytes),
)

_ALL = (
    View(
        "caches",
        lambda snapshot: snapshot.caches,
        (
            _text("name"), _bytes("object_size"), _count("allocs"), _count("frees"),
            _count("failed"), _bytes("requested_bytes"), _bytes("allocated_bytes"),
            _bytes("freed_bytes"), *LIVE, _text("frees_observable"), _text("reclaimable"),
            Column("active_objects", "count", lambda c: c.slabinfo and c.slabinfo.active_objects),
            Column("slab_bytes", "bytes", lambda c: c.slabinfo and c.slabinfo.slab_bytes),
        ),
        "allocated_bytes",
    ),
    View(
        "sites",
        lambda snapshot: snapshot.sites,
        (
            _text("site", "label"), _text("module"), _count("allocs"), _count("failed"),
            _bytes("requested_bytes"), _bytes("allocated_bytes"), *LIVE,
        ),
        "allocated_bytes",
    ),
    View(
        "devices",
        lambda snapshot: snapshot.devices,
        (
            _text("bus"), _text("name"), _text("driver"), _text("module"), _count("resources"),
            _bytes("managed_bytes"), _bytes("slab_bytes"), _count("added"), _count("removed"),
        ),
        "managed_bytes",
    ),
    View(
        "resources",
        lambda snapshot: [(device, release) for device in snapshot.devices
                          for release in device.by_release],
        (
            Column("bus", "", lambda row: row[0].bus), Column("name", "", lambda row: row[0].name),
            Column("driver", "", lambda row: row[0].driver),
            Column("release", "", lambda row: row[1].name),
            Column("resources", "count", lambda row: row[1].resources),
            Column("bytes", "bytes", lambda row: row[1].bytes),
        ),
        "bytes",
    ),
    View(
        "gfp",
        lambda snapshot: snapshot.gfp,
        (_text("class", "name"), _count("allocs"), _bytes("allocated_bytes"), _count("failed")),
        "allocs",
    ),
    View("sizes", lambda snapshot: snapshot.sizes, (_bytes("le"), _count("allocs"))),
    View(
        "nodes",
        lambda snapshot: snapshot.nodes,
        (_text("node"), _count("allocs"), _bytes("allocated_bytes")),
    ),
    View(
        "pages",
        lambda snapshot: snapshot.pages,
        (
            _text("order"), _text("gfp_class"), _count("allocs"), _count("frees"),
            _count("failed"),
        ),
    ),
    View(
        "losses",
        lambda snapshot: snapshot.losses.items(),
        (
            Column("reason", "", lambda row: row[0]),
            Column("count", "count", lambda row: row[1]),
        ),
    ),
    View(
        "features",
        lambda snapshot: snapshot.features.items(),
        (
            Column("feature", "", lambda row: row[0]),
            Column("state", "", lambda row: row[1].state),
            Column("reason", "", lambda row: row[1].reason),
        ),
    ),
)  # fmt: skip
VIEWS = {view.name: view for view in _ALL}


def by_view(dimensions: tuple[str, ...], rows: list[Group]) -> View:
    """A view of live estimates grouped by dimensions."""

    def dimension(position: int, name: str) -> Column:
        return Column(name, "", lambda row: row.labels[position])

    return View(
        "by", lambda _: rows, (*(dimension(i, name) for i, name in enumerate(dimensions)), *LIVE)
    )


def cells(view: View, snapshot: Snapshot) -> list[tuple[Value, ...]]:
    """The rows of a view as plain values, in its order."""
    rows = [tuple(column.get(row) for column in view.columns) for row in view.rows(snapshot)]
    if view.sort:
        position = [column.name for column in view.columns].index(view.sort)
        rows.sort(key=lambda row: -(row[position] or 0))  # type: ignore[operator]
    return rows
