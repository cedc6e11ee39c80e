# SPDX-License-Identifier: Apache-2.0
"""The past of a window on its way to another process: it arrives as it was, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.activity import Activity
from slabmon.model import Snapshot
from slabmon.views.catalogue import VIEWS
from slabmon.views.overview.rows import rows
from slabmon.views.table import Table
from slabmon.views.window import NoJudge, Window, WindowBuilder
from slabmon.views.window_past import BadWindow, decode, encode
from tests.support.conditions import healthy
from tests.support.terminal import host

SECONDS = range(10, 190, 10)
GROWING = [view for view in VIEWS.values() if view.figure]


def watched(make: Callable[[float], Snapshot] = host) -> Window:
    builder = WindowBuilder(VIEWS.values(), NoJudge())
    return [builder.add(make(float(second))) for second in SECONDS][-1]


def resumed(data: bytes, first: Snapshot) -> Window:
    builder = WindowBuilder(VIEWS.values(), NoJudge())
    builder.resume(decode(data))
    return builder.add(first)


def test_growth_is_that_of_the_window_it_came_from() -> None:
    window = watched()
    found = resumed(encode(window.past, 1000), window.snapshot)
    assert found.moments == window.moments
    assert found.before is None
    for view in GROWING:
        for column in ("growth_bytes_per_hour", "history"):
            texts = [
                table.cells(range(len(table)), [view.column(column)])
                for table in (Table(view, window), Table(view, found))
            ]
            assert texts[0] == texts[1], view.name


def test_the_overview_knows_how_long_it_was_watched() -> None:
    window = watched(healthy)
    found = resumed(encode(window.past, 20), window.snapshot)
    assert rows(found)[0].finding == "nothing wrong"


def test_it_goes_on() -> None:
    builder = WindowBuilder(VIEWS.values(), NoJudge())
    builder.resume(decode(encode(watched().past, 1000)))
    builder.add(host(200))
    later = builder.add(host(210))
    assert later.moments == (*map(float, SECONDS[:-1]), 200.0)
    assert later.seconds == 10


@pytest.mark.parametrize(("most", "kept"), [(3, (10.0, 90.0, 170.0)), (2, (10.0, 170.0))])
def test_fewer_moments_reach_as_far(most: int, kept: tuple[float, ...]) -> None:
    assert resumed(encode(watched().past, most), host(180)).moments == kept


def another(change: str) -> Snapshot:
    snapshot = host(180)
    changes: dict[str, dict[str, Any]] = {
        "boot": {},
        "session": {"since": 5.0},
        "sleep": {"wakes": 1},
        "activity": {"activity": Activity.ASLEEP},
        "earlier": {"seconds": 20.0},
    }
    boot_id = "another" if change == "boot" else snapshot.host.boot_id
    return replace(
        snapshot,
        host=replace(snapshot.host, boot_id=boot_id),
        tracking=replace(snapshot.tracking, **changes[change]),
    )


@pytest.mark.parametrize("change", ["boot", "session", "sleep", "activity", "earlier"])
def test_a_snapshot_that_does_not_continue_it_begins_anew(change: str) -> None:
    assert resumed(encode(watched().past, 20), another(change)).moments == ()


def test_a_past_without_all_views_is_not_used() -> None:
    past = watched().past
    fewer = replace(past, trails={name: past.trails[name] for name in ("caches", "sites")})
    assert resumed(encode(fewer, 20), host(180)).moments == ()


def test_a_window_without_a_past_is_one() -> None:
    first = WindowBuilder(VIEWS.values(), NoJudge()).add(host(180))
    assert resumed(encode(first.past, 20), host(190)).moments == ()


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = msgspec.msgpack.decode(encode(watched().past, 3))
    change(document)
    return msgspec.msgpack.encode(document)


def test_what_is_changed_in_no_way_is_read() -> None:
    assert decode(changed(lambda document: None)).moments == (10.0, 90.0, 170.0)


ROW = bytes(4 + 8 + 8)
WRONG: list[Callable[[dict[str, Any]], object]] = [
    lambda d: d.pop("moments"),
    lambda d: d.update(moments=[1.0]),
    lambda d: d.update(moments=[3.0, 2.0, 1.0]),
    lambda d: d.update(moments=[1.0, 2.0, float("nan")]),
    lambda d: d.update(moments=[1.0, 2.0, float("inf")]),
    lambda d: d.update(continuity=["boot"]),
    lambda d: d["trails"].update(caches={"keys": ["a", "a"], "points": [b"", b"", b""]}),
    lambda d: d["trails"].update(caches={"keys": [{}], "points": [b"", b"", b""]}),
    lambda d: d["trails"].update(caches={"keys": [1.5], "points": [b"", b"", b""]}),
    lambda d: d["trails"].update(caches={"keys": ["a"], "points": [ROW]}),
    lambda d: d["trails"].update(caches={"keys": [], "points": [ROW, b"", b""]}),
    lambda d: d["trails"].update(caches={"keys": ["a"], "points": [ROW[1:], b"", b""]}),
    lambda d: d["trails"].update(caches={"keys": ["a"], "points": [ROW + b"x", b"", b""]}),
    lambda d: d["trails"].update(caches={"keys": ["a"], "points": [2 * ROW, b"", b""]}),
    lambda d: d["trails"].update(caches={"keys": ["a"], "points": [b"\xff" * 20, b"", b""]}),
    lambda d: d["trails"].update(
        caches={"keys": ["a"], "points": [bytes(4) + b"\xff" * 16, b"", b""]}
    ),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_contradicts_itself_is_refused(wrong: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(BadWindow):
        decode(changed(wrong))


@given(st.binary(max_size=200))
def test_bytes_from_anywhere_are_refused(data: bytes) -> None:
    with pytest.raises(BadWindow):
        decode(data)


@given(st.data())
def test_damage_is_refused_or_gives_a_window(data: st.DataObject) -> None:
    whole = bytearray(encode(watched().past, 3))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    try:
        window = resumed(bytes(whole), host(180))
    except BadWindow:
        return
    for view in GROWING:
        table = Table(view, window)
        table.cells(range(len(table)), table.columns)
