# SPDX-License-Identifier: Apache-2.0
"""Values as people read them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.format import TREND_WIDTH, human, trend
from slabmon.base.units import Value
from slabmon.model import Live
from slabmon.views.catalogue import VIEWS
from slabmon.views.cells import shortened, texts
from slabmon.views.drilldown import grouped_view
from slabmon.views.filtering import mask
from slabmon.views.table import Table
from tests.support.builders import Object, cache, device, site, snapshot, tracked


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (None, "bytes", "-"),
        (True, "", "yes"),
        (False, "", "no"),
        (0, "bytes", "0 B"),
        (1023, "bytes", "1023 B"),
        (1024, "bytes", "1.0 KiB"),
        (1536, "bytes", "1.5 KiB"),
        (1 << 20, "bytes", "1.0 MiB"),
        (5 << 40, "bytes", "5.0 TiB"),
        (5 << 60, "bytes", "5242880.0 TiB"),
        (-1536, "bytes", "-1.5 KiB"),
        (1536.25, "bytes/s", "1.5 KiB"),
        (12.25, "bytes/s", "12 B"),
        (1536, "bytes/h", "+1.5 KiB"),
        (0, "bytes/h", "0 B"),
        (-7, "bytes/h", "-7 B"),
        (1234567, "count", "1,234,567"),
        (1234.5, "count/s", "1,234"),
        (12.34, "count/s", "12.3"),
        (0.1234, "ratio", "12.3%"),
        (-0.0004, "ratio", "0.0%"),
        (0.0, "seconds", "0.0s"),
        (1.32e-7, "seconds", "132ns"),
        (2.5e-5, "seconds", "25.0us"),
        (0.25, "seconds", "250.0ms"),
        (59.9, "seconds", "59.9s"),
        (61.0, "seconds", "1m01s"),
        (7500.0, "seconds", "2h05m"),
        (90_000.0, "seconds", "1d01h"),
        (7, "", "7"),
        ("text", "", "text"),
        ("\x1b[31m\n", "", "\\x1b[31m\\n"),
    ],
)
def test_values_are_shown_for_people(value: Value, unit: str, shown: str) -> None:
    assert human(value, unit) == shown


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], ""),
        ([0], "▁"),
        ([5], "▄"),
        ([0, 0], "▁▁"),
        ([1000, 1001], "▄▄"),
        ([0, 7], "▁█"),
        ([7, 0], "█▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([0, None, None, 7], "▁  █"),
        ([5, None], "▄ "),
    ],
)
def test_a_trend_is_drawn_from_its_lowest_to_its_highest(
    values: list[int | None], shown: str
) -> None:
    assert trend(values) == shown


def test_a_long_trend_keeps_its_peaks() -> None:
    values: list[int | None] = [0] * 1000
    values[999] = values[3] = 9
    assert trend(values) == "█" + "▁" * (TREND_WIDTH - 2) + "█"


@given(st.lists(st.none() | st.integers(-(2**62), 2**62), max_size=50))
def test_any_trend_can_be_drawn(values: list[int | None]) -> None:
    assert len(trend(values)) == min(len(values), TREND_WIDTH)


def test_live_figures_of_what_is_freed_unseen_are_marked() -> None:
    found = snapshot(
        caches=(
            cache("seen", live=Live(1, 64)),
            cache("unseen", live=Live(1, 64), frees_observable=False),
        )
    )
    table = Table.of(VIEWS["caches"], found)
    columns = [VIEWS["caches"].column(name) for name in ("name", "live_bytes", "allocs")]
    assert texts(table, [0, 1], columns) == [["seen", "64 B", "0"], ["unseen", "64 B?", "0"]]


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ("UNIX", "UNIX"),
        ("UNIX, UNIX-STREAM", "UNIX, UNIX-STREAM"),
        ("UNIX, UNIX-STREAM, more", "UNIX, UNIX-STREAM +1"),
        ("a_name_that_is_longer_than_there_is_room", "a_name_that_is_longer_than_there_is_room"),
        ("btrfs_free_space_bitmap, b, c", "btrfs_free_space_bitmap +2"),
    ],
)
def test_a_table_shows_the_first_of_many_names(names: str, shown: str) -> None:
    """Filters and CSV have all of them."""
    assert shortened(names) == shown


@pytest.mark.parametrize(
    ("view", "column"), [("caches", "aliases"), ("holdings", "aliases"), ("cache,site", "aliases")]
)
def test_merged_caches_have_their_other_names_beside_them(view: str, column: str) -> None:
    merged = cache("signal_cache", aliases=("UNIX", "UNIX-STREAM"))
    holder = device("pci", "0000:00:01.0", slab_by_cache={"signal_cache": 64})
    snap = snapshot(
        caches=(cache("dentry"), merged),
        sites=(site("load"),),
        devices=(holder,),
        tracked=tracked([Object(cache=1)]),
    )
    table = Table.of(VIEWS.get(view) or grouped_view(tuple(view.split(","))), snap)
    assert column in [each.name for each in table.brief]
    assert table.values(column).tolist()[-1] == "UNIX, UNIX-STREAM"
    assert mask("UNIX-STREAM", table).sum() == 1
    plain = replace(snap, caches=(cache("dentry"), replace(merged, aliases=())))
    assert column not in [each.name for each in Table.of(table.view, plain).brief]
    assert mask("/^unix/", table).sum() == 1
