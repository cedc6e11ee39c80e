# SPDX-License-Identifier: Apache-2.0
"""The ledger of all memory as JSON, CSV and a table for a terminal."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Sequence

from slabmon.base.escape import printable
from slabmon.base.format import bytes_text, duration, human
from slabmon.base.parse import show_moment
from slabmon.base.units import BYTES, PERCENT
from slabmon.export.documents import read_document
from slabmon.memory.ledger import Ledger, LedgerRow, PageHolder, RowKind

SCHEMA = 1
_COLUMNS = ("kind", "name", "bytes", "exactness", "source")
# In this order kinds are shown.
_KINDS = {
    RowKind.KERNEL: "KERNEL",
    RowKind.CACHE: "PAGE CACHE",
    RowKind.USER: "PROCESSES",
    RowKind.RESERVED: "SET ASIDE",
    RowKind.FREE: "FREE",
}
_TITLE_WIDTH, _BAR_WIDTH = 40, 32
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LARGEST = 5


def to_json(ledger: Ledger) -> str:
    """Return the ledger as one line of JSON. Fields are those of slabmon.memory.ledger."""
    document = {"schema": SCHEMA, **dataclasses.asdict(ledger)}
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def from_json(data: bytes, origin: str) -> Ledger:
    """Return the ledger that to_json() was given. Raises UsageError if it is anything else;
    `origin` says where it is from."""
    return read_document(data, Ledger, SCHEMA, "account of memory", origin)


def to_csv(ledger: Ledger) -> str:
    """Return rows as CSV (RFC 4180) with a heading row; the last ones are `unaccounted` and
    `total`."""
    output = io.StringIO()
    writer = csv.writer(output)
    writer.writerow(_COLUMNS)
    for row in _in_order(ledger):
        writer.writerow((row.kind, row.name, row.bytes, row.exactness, row.source))
    writer.writerow(("", "unaccounted", ledger.unaccounted_bytes, "", ""))
    writer.writerow(("", "total", ledger.total_bytes, "exact", "/proc/meminfo: MemTotal"))
    return output.getvalue()


def _in_order(ledger: Ledger) -> Iterator[LedgerRow]:
    """Yield the rows by kind, largest first within a kind."""
    for kind in _KINDS:
        yield from sorted(
            (row for row in ledger.rows if row.kind == kind),
            key=lambda row: (-row.bytes, row.name),
        )


def to_table(ledger: Ledger) -> str:
    """Return the ledger as text: a bar for each row, largest first within its kind, what is
    unaccounted last; below it who holds most of what, and what cannot be seen."""
    total = ledger.total_bytes
    lines = [_line("MEMORY", total, total), ""]
    for kind, heading in _KINDS.items():
        rows = [row for row in _in_order(ledger) if row.kind == kind and row.bytes]
        if rows:
            lines.append(_line(heading, sum(row.bytes for row in rows), total))
            lines += (
                f"{_line(f'  {row.title}', row.bytes, total)}  {_bar(row.bytes / total)}"
                for row in rows
            )
    lines += [_line("UNACCOUNTED", ledger.unaccounted_bytes, total), *_growth(ledger), ""]
    for heading, parts in _details(ledger).items():
        if parts:
            lines += [heading, *(_line(f"  {title}", size) for title, size in parts), ""]
    return "\n".join([*lines, *_notes(ledger)]) + "\n"


def _line(title: str, size: int, total: int = 0) -> str:
    """Return a line with its share of `total`, if that is given."""
    share = f" {human(size / total, PERCENT):>7}" if total else ""
    return f"{printable(title):<{_TITLE_WIDTH}} {human(size, BYTES):>10}{share}"


def _bar(share: float) -> str:
    """Return a bar of _BAR_WIDTH characters at most; anything but nothing shows."""
    eighths = max(round(share * _BAR_WIDTH * 8), 1 if share > 0 else 0)
    full, rest = divmod(eighths, 8)
    return ("█" * full + _EIGHTHS[rest]).rstrip()


def _growth(ledger: Ledger) -> Iterator[str]:
    if ledger.growth is not None:
        change, seconds = ledger.growth.bytes, ledger.growth.seconds
        verb = "grew" if change >= 0 else "shrank"
        yield f"  what no counter names {verb} by {bytes_text(abs(change))} in {duration(seconds)}"


def _details(ledger: Ledger) -> dict[str, list[tuple[str, int]]]:
    """Return parts of rows, and what is beyond them, by heading."""
    orders: dict[int, int] = {}
    for block in ledger.kernel_blocks:
        orders[block.order] = orders.get(block.order, 0) + block.bytes
    return {
        "MOST VMALLOC BY": [
            (_place(row.symbol, row.offset, row.module), row.bytes)
            for row in ledger.vmalloc[:_LARGEST]
        ],
        "KERNEL PAGES WITHOUT AN ACCOUNT, BY BLOCK": [
            (f"order {order}", size) for order, size in sorted(orders.items())
        ],
        "KERNEL PAGES WITHOUT AN ACCOUNT, BY CALLER": _holders(ledger.pages),
        "PER-CPU MEMORY BY CALLER": _holders(ledger.percpu),
        "PARTS OF THESE ROWS": [(part.title, part.bytes) for part in ledger.within],
        "BEYOND MEMTOTAL": [(part.title, part.bytes) for part in ledger.beyond],
    }


def _holders(holders: Sequence[PageHolder]) -> list[tuple[str, int]]:
    return [(_place(row.symbol, 0, row.module), row.live_bytes) for row in holders[:_LARGEST]]


def _place(symbol: str, offset: int, module: str | None) -> str:
    """Return a function, and a place in it, as the kernel prints them (lib/vsprintf.c: %pS)."""
    return symbol + f"+{offset:#x}" * bool(offset) + f" [{module}]" * bool(module)


def _notes(ledger: Ledger) -> Iterator[str]:
    moved = f"; {bytes_text(ledger.moved_bytes)} changed hands meanwhile" * bool(ledger.moved_bytes)
    yield f"Counters read at {show_moment(ledger.taken)}{moved}."
    if ledger.scanned is not None:
        yield f"Struct pages read at {show_moment(ledger.scanned)}."
    yield from (f"limit: {text}" for text in ledger.limits)
