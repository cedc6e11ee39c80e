# SPDX-License-Identifier: Apache-2.0
"""What snapshot says beside its tables."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from slabmon.cli.main import main
from slabmon.kernel import session
from slabmon.model import Live, Slabinfo, Snapshot
from tests.support.builders import Object, cache, site, snapshot, tracked


class Kernel:
    """What open_tracker() gives."""

    def __init__(self, taken: Snapshot) -> None:
        self.taken = taken

    def snapshot(self, details: bool = False) -> Snapshot:
        return self.taken


def said(
    objects: list[Object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *options: str,
) -> str:
    """Return what is written on standard error for a kernel in which these objects are live."""
    kernel = Kernel(snapshot(tracked=tracked(objects)))
    monkeypatch.setattr(session, "open_tracker", lambda _: nullcontext(kernel))
    assert main(["snapshot", "--seconds", "0", *options]) == 0
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--by", "process"), "no sampled allocation is live after 12.5s; watch longer"),
        (("--exact", "min_size=8"), "nothing that matches the filter is live after 12.5s"),
        ((), ""),
    ],
)
def test_a_table_without_rows_is_explained(
    options: tuple[str, ...],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    explanation = said([], monkeypatch, capsys, *options)
    assert explanation.startswith(f"slabmon: {text}") if text else not explanation
    assert not said([Object(0, 0, 64, 4096, 1.0)], monkeypatch, capsys, *options)


# Twenty caches that hold more than those that are asked for, and as many sites.
CROWD = snapshot(
    caches=(
        *(cache(f"big-{i}", slabinfo=Slabinfo(1, 1, 64, (99 - i) << 20)) for i in range(20)),
        cache("kmalloc-64", aliases=("odd_one",)),
        cache("kmalloc-cg-64"),
        cache("held", live=Live(1, 64, 0, 64, 64)),
    ),
    sites=(
        *(site(f"busy_{i}", allocated_bytes=99 - i) for i in range(20)),
        site("probe_card", 0x40, "odd_card"),
        site("holder", live=Live(1, 64, 0, 64, 64)),
    ),
    tracked=tracked([Object(22, 21, 64, 0, 1.0)]),
)


def first_names(
    table: str, exact: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    monkeypatch.setattr(session, "open_tracker", lambda _: nullcontext(Kernel(CROWD)))
    options = ("--exact", exact) if exact else ()
    assert main(["snapshot", "--seconds", "0", *options]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    lines = next(text for text in tables if text.startswith(table)).splitlines()
    return [line.split()[0].partition("+")[0] for line in lines[2:5]]


@pytest.mark.parametrize(
    ("table", "exact", "names"),
    [
        ("caches", "", ["big-0", "big-1", "big-2"]),
        ("caches", "min_size=8", ["held", "big-0", "big-1"]),
        ("caches", "cache=kmalloc-64", ["kmalloc-64", "held", "big-0"]),
        ("caches", "cache=odd_one", ["kmalloc-64", "held", "big-0"]),
        ("caches", "family=kmalloc-64", ["kmalloc-64", "kmalloc-cg-64", "held"]),
        ("sites", "min_size=8", ["holder", "busy_0", "busy_1"]),
        ("sites", "site=probe_card", ["probe_card", "holder", "busy_0"]),
        ("sites", "site=probe_card+0x40", ["probe_card", "holder", "busy_0"]),
        ("sites", "module=odd-card", ["probe_card", "holder", "busy_0"]),
    ],
)
def test_what_a_filter_asks_for_comes_first(
    table: str,
    exact: str,
    names: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert first_names(table, exact, monkeypatch, capsys) == names
