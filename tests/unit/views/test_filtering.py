# SPDX-License-Identifier: Apache-2.0
"""The filter language of the views."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.errors import UsageError
from slabmon.model import Live, Slabinfo
from slabmon.views.catalogue import VIEWS
from slabmon.views.filtering import find_column, mask
from slabmon.views.table import Table
from slabmon.views.view import View
from tests.support.builders import Object, cache, device, snapshot, tracked, window_of

CACHES = (
    cache("kmalloc-64", live=Live(10, 2 << 20, 5), allocs=1500, slabinfo=Slabinfo(1, 2, 3, 4)),
    cache("KMALLOC-128", live=Live(1, 1 << 20), frees_observable=False),
    cache("dentry", object_size=192),
    cache("two words"),
)
FOUND = snapshot(
    caches=CACHES,
    devices=(device(module="nvme"), device(name="b", module=None), device(name="c", module="x")),
    tracked=tracked([Object(age=4000), Object(age=5, cache=1)]),
)


def names(text: str, view: View = VIEWS["caches"]) -> list[str]:
    table = Table.of(view, FOUND)
    found: list[str] = table.values("name")[mask(text, table)].tolist()
    return found


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", "0123"),
        ("   ", "0123"),
        ("kmalloc", "01"),
        ("KMALLOC", "01"),
        ("kmalloc 64", "0"),
        ("kmalloc-64", "0"),
        ('"two words"', "3"),
        ("two words", "3"),
        (r"/^kmalloc-\d+$/", "01"),
        ("/^d/", "2"),
        ("/-/ 128", "1"),
        ("live > 1M", "0"),
        ("live>1M", "0"),
        ("live >= 1M", "01"),
        ("live >= 1MiB", "01"),
        ("live_bytes=1048576", "1"),
        ("live != 0 kmalloc", "01"),
        ("live < 1.5m kmalloc", "1"),
        ("allocs > 1k", "0"),
        ("size = 192", "2"),
        ("object_s = 192", "2"),
        ("oldest > 1h", "0"),
        ("oldest < 1h", "1"),
        ("name ~ MALLOC", "01"),
        ("name !~ kmalloc", "23"),
        ("name ~ /y$/", "2"),
        ("name = dentry", "2"),
        ('name = "two words"', "3"),
        ("name != dentry live > 0", "01"),
        ("frees_observable = no", "1"),
        ("frees_observable != false", "023"),
        ("slab_bytes >= 0", "0"),
        ("slab_bytes != 7", "0"),
        ("use = 50%", "0"),
    ],
)
def test_filters_keep_what_they_say(text: str, kept: str) -> None:
    assert names(text) == [CACHES[int(digit)].name for digit in kept]


def test_missing_text_matches_nothing_but_a_negation() -> None:
    assert names("module ~ nvme", VIEWS["devices"]) == ["0000:00:03.0"]
    assert names("module !~ nvme", VIEWS["devices"]) == ["b", "c"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour > 3", ["'colour'", "unknown column", "live_bytes"]),
        ("live_ > 3", ["'live_'", "ambiguous", "live_objects"]),
        ("live > many", ["'many'", "live_bytes", "number"]),
        ("live > 1d", ["'1d'", "kib"]),
        ("oldest > 1M5", ["'1M5'"]),
        ("live >", ["value is missing"]),
        ("live > > 3", ["value is missing"]),
        ("> 3", ["column is missing"]),
        ("/(/", ["bad regular expression", "missing )"]),
        ("/(?=kmalloc)/", ["bad regular expression", "look-around"]),
        (r"/(a)\1/", ["bad regular expression", "back-references"]),
        (f"/{'(a{1000}){1000}' * 9}/", ["bad regular expression"]),
        ("name > a", ["text", "!~"]),
        ("frees_observable > yes", ["yes or no"]),
        ("frees_observable = 3", ["yes or no"]),
        ('"open', ["cannot read"]),
    ],
)
def test_errors_are_one_clear_line(text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        names(text)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_text_that_is_not_unicode_is_no_crash() -> None:
    with pytest.raises(UsageError, match="bad regular expression"):
        names("/\udcff/")
    assert names("\udcff") == []


@pytest.mark.parametrize(
    "expression", ["(.*)*(.*)*(.*)*x$", "(x+x+)+y", "(a|a)*b", r"(\w{1,40}\W{0,9}){1,12}~"]
)
def test_no_expression_explodes(expression: str) -> None:
    table = Table.of(
        VIEWS["caches"], snapshot(caches=[cache("ax-" * 200 + str(i)) for i in range(200)])
    )
    begin = time.process_time()
    assert not mask(f"/{expression}/", table).any()
    assert time.process_time() - begin < 2.0  # backtracking would take longer than the universe


def test_without_re2_other_filters_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    assert names("kmalloc live > 1M") == ["kmalloc-64"]
    with pytest.raises(UsageError, match="google-re2"):
        names("/kmalloc/")


@given(st.text(max_size=30) | st.text('live>=~!/" 1Mk\\(', max_size=20))
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    table = Table.of(VIEWS["caches"], FOUND)
    with contextlib.suppress(UsageError):
        assert len(mask(text, table)) == len(CACHES)


def test_a_history_cannot_be_compared() -> None:
    later = replace(FOUND, tracking=replace(FOUND.tracking, seconds=99))
    table = Table(VIEWS["caches"], window_of(FOUND, later))
    with pytest.raises(UsageError, match="many values"):
        mask("history > 3", table)


def test_columns_are_found_by_name_heading_or_beginning() -> None:
    columns = VIEWS["caches"].columns
    assert find_column(columns, "live").name == "live_bytes"
    assert find_column(columns, "LIVE").name == "live_bytes"
    assert find_column(columns, "±").name == "live_stderr_bytes"
    assert find_column(columns, "reclaim").name == "reclaimable"
    assert find_column(columns, "name").name == "name"
