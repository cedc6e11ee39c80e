# SPDX-License-Identifier: Apache-2.0
"""The filter of exact mode: its text form, and its site or module as a range of kernel text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slabmon.base.errors import UsageError
from slabmon.kernel.exact_filter import FILTER_KEYS, Filter, filtered_text
from slabmon.kernel.symbols.kallsyms import Symbols
from tests.support.kallsyms import CORE, MODULE, Host


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cache=kmalloc-64", Filter(cache="kmalloc-64")),
        ("site=do_probe+0x1c", Filter(site="do_probe+0x1c")),
        ("module=e1000e", Filter(module="e1000e")),
        ("cgroup=/a=b", Filter(cgroup="/a=b")),
        (" min_size=100 , max_size=200,", Filter(min_size=100, max_size=200)),
        ("min_size=7,max_size=7", Filter(min_size=7, max_size=7)),
        ("cache=a,site=b,min_size=1,cgroup=c", Filter(cache="a", site="b", min_size=1, cgroup="c")),
    ],
)
def test_a_filter_is_read_as_written(text: str, wanted: Filter) -> None:
    assert Filter.parse(text) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty", "KEY=VALUE"]),
        (" , ,", ["empty"]),
        ("kmalloc-64", ["kmalloc-64", "KEY=VALUE"]),
        ("cahce=x", ["cahce=x", "cache"]),
        ("cache=", ["cache="]),
        ("=x", ["=x"]),
        ("cache=a,cache=b", ["cache", "twice"]),
        ("min_size=big", ["min_size=big", "bytes"]),
        ("min_size=0", ["positive"]),
        ("max_size=-1", ["positive"]),
        ("max_size=1e3", ["positive"]),
        ("max_size=1099511627776", ["positive"]),
        ("min_size=2,max_size=1", ["min_size", "max_size"]),
        ("module=m,site=s", ["module", "site"]),
        ("min_size=" + "9" * 5000, ["positive"]),
        ("min_size=\u00b2", ["positive"]),
    ],
)
def test_a_bad_filter_is_refused_with_what_is_wrong(text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        Filter.parse(text)
    assert caught.value.exit_code == 2
    assert all(word in str(caught.value) for word in words), caught.value


PART = st.one_of(
    st.text(max_size=12),
    st.tuples(st.sampled_from(FILTER_KEYS), st.text(max_size=8)).map("=".join),
    st.tuples(st.sampled_from(("min_size", "max_size")), st.integers().map(str)).map("=".join),
)


@given(st.lists(PART, max_size=4).map(",".join))
@example("min_size=\u0661\u0662")
def test_any_text_is_a_filter_or_a_usage_error(text: str) -> None:
    try:
        found = Filter.parse(text)
    except UsageError:
        return
    values = {key: getattr(found, key) for key in FILTER_KEYS if getattr(found, key) is not None}
    assert values
    assert all(str(value).strip() for value in values.values())
    assert not (found.min_size and found.max_size and found.min_size > found.max_size)


VALUE = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=10)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "cache": VALUE,
            "site": VALUE,
            "cgroup": VALUE,
            "min_size": st.integers(1, 1000),
            "max_size": st.integers(1000, 2000),
        },
    ).filter(bool)
)
def test_what_a_filter_says_is_parsed_back(values: dict[str, Any]) -> None:
    text = ",".join(f"{key}={value}" for key, value in values.items())
    assert Filter.parse(text) == Filter(**values)


@pytest.fixture
def symbols(tmp_path: Path) -> Symbols:
    host = Host(tmp_path)
    host.load("card", MODULE, [(0x10, "card_init"), (0x40, "card_probe")])
    return host.symbols()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, (0, 0)),
        (Filter(cache="kmalloc-64"), (0, 0)),
        (Filter(site="__kmalloc_noprof"), (CORE + 0x10, CORE + 0x80)),
        (Filter(site="__kmalloc_noprof+0x1c"), (CORE + 0x2C, CORE + 0x2D)),
        (Filter(site="__kmalloc_noprof+28"), (CORE + 0x2C, CORE + 0x2D)),
        (Filter(module="card"), (MODULE, MODULE + 0x1000)),
    ],
)
def test_sites_and_modules_become_ranges(
    symbols: Symbols, wanted: Filter | None, found: tuple[int, int]
) -> None:
    assert filtered_text(wanted, symbols) == found


def test_a_function_of_a_module_can_be_a_site(symbols: Symbols) -> None:
    """The sites view shows it under this name."""
    assert filtered_text(Filter(site="card_probe+0x4"), symbols) == (MODULE + 0x44, MODULE + 0x45)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Filter(site="absent"), ["absent", "/proc/kallsyms"]),
        (Filter(site="__kmalloc_noprof+far"), ["+far", "OFFSET"]),
        (Filter(site="__kmalloc_noprof+"), ["__kmalloc_noprof+", "OFFSET"]),
        (Filter(module="absent"), ["absent", "lsmod"]),
    ],
)
def test_what_does_not_exist_is_a_usage_error(
    symbols: Symbols, wanted: Filter, words: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        filtered_text(wanted, symbols)
    assert all(word in str(caught.value) for word in words), caught.value
