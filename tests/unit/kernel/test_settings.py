# SPDX-License-Identifier: Apache-2.0
"""Settings and the filter of exact mode."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slabmon.base.errors import UsageError
from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.settings import FILTER_KEYS, POOL_STEP, TAG_PROBES, TAG_WAYS, Filter, Settings

LIMITS = {
    "sample_bytes": (64, 1 << 30),
    "stack_frames": (0, 127),
    "site_slots": (64, 1 << 15),
    "cache_slots": (64, 1 << 15),
    "samples": (4096, 1 << 22),
    "caches": (256, 1 << 16),
    "stacks": (256, 1 << 20),
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cache=kmalloc-64", Filter(cache="kmalloc-64")),
        ("site=do_probe+0x1c", Filter(site="do_probe+0x1c")),
        ("module=e1000e", Filter(module="e1000e")),
        ("cgroup=/a=b", Filter(cgroup="/a=b")),
        (" min_size=100 , max_size=200,", Filter(min_size=100, max_size=200)),
        ("min_size=7,max_size=7", Filter(min_size=7, max_size=7)),
        ("cache=a,site=b,min_size=1,cgroup=c", Filter("a", None, "b", 1, None, "c")),
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


@pytest.mark.parametrize("name", LIMITS)
def test_settings_at_their_limits_are_taken_and_beyond_refused(name: str) -> None:
    low, high = LIMITS[name]
    for value in (low, high):
        assert getattr(Settings(**{name: value}), name) == value  # type: ignore[arg-type]
    for value in (low - 1, high + 1):
        with pytest.raises(UsageError, match=f"{name} is {value}; it must be from {low} to {high}"):
            Settings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["site_slots", "cache_slots"])
def test_slots_must_be_a_power_of_two(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is 1000; it must be a power of two"):
        Settings(**{name: 1000})  # type: ignore[arg-type]


def test_samples_fill_the_pool_in_whole_steps() -> None:
    assert CONSTANTS["POOL_STEP"] == POOL_STEP
    assert (CONSTANTS["TAG_WAYS"], CONSTANTS["TAG_PROBES"]) == (TAG_WAYS, TAG_PROBES)
    with pytest.raises(UsageError, match="samples is 5000; it must be a multiple of 4096"):
        Settings(samples=5000)


@given(st.integers(1, 8192))
def test_scaled_tables_stay_small_on_many_cpus_and_useful_on_few(cpus: int) -> None:
    scaled = Settings().scaled(cpus)
    assert scaled.site_slots is not None
    assert scaled.cache_slots is not None
    assert scaled.site_slots & (scaled.site_slots - 1) == 0
    assert 512 <= scaled.site_slots <= 4096
    assert scaled.site_slots == 512 or scaled.site_slots * 64 * 2 * cpus <= 64 << 20


def test_scaling_keeps_what_was_asked_for() -> None:
    asked = Settings(site_slots=64, cache_slots=128, samples=8192)
    assert asked.scaled(64) == asked
    assert Settings().scaled(1).site_slots == 4096


@given(st.integers(1, 8192), st.integers(6, 15))
def test_programs_can_address_the_lanes_of_all_cpus(cpus: int, exponent: int) -> None:
    """512 MiB of one value (BPF_MAX_VAR_OFF), with a head of 256 bytes in each lane."""
    slots = 1 << exponent
    asked = (Settings(site_slots=slots), Settings(cache_slots=slots))
    if cpus * (256 + 64 * slots) <= 1 << 29:
        assert asked[0].scaled(cpus).site_slots == asked[1].scaled(cpus).cache_slots == slots
        return
    for settings in asked:
        with pytest.raises(UsageError, match=f"_slots is {slots}; with {cpus} possible CPUs"):
            settings.scaled(cpus)


@given(st.integers(1, 8192))
def test_default_lanes_can_be_addressed(cpus: int) -> None:
    scaled = Settings().scaled(cpus)
    assert cpus * (256 + 64 * max(scaled.site_slots or 0, scaled.cache_slots or 0)) <= 1 << 29
