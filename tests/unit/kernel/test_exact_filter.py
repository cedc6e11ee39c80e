# SPDX-License-Identifier: Apache-2.0
"""The filter of exact mode: its text form."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slabmon.base.errors import UsageError
from slabmon.kernel.exact_filter import FILTER_KEYS, Filter


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cache=kmalloc-64", Filter(cache="kmalloc-64")),
        ("site=do_probe+0x1c", Filter(site="do_probe+0x1c")),
        ("module=e1000e", Filter(module="e1000e")),
        ("cgroup=/a=b", Filter(cgroup="/a=b")),
        (" min_size=100 , max_size=200,", Filter(min_size=100, max_size=200)),
        ("min_size=7,max_size=7", Filter(min_size=7, max_size=7)),
        ("family=kmalloc-64,pid=12", Filter(family="kmalloc-64", pid=12)),
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
        ("cache=c,family=f", ["cache", "family"]),
        ("pid=init", ["pid=init", "process ID"]),
        ("pid=0", ["positive"]),
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
    assert not (found.cache and found.family)
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
