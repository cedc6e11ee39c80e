# SPDX-License-Identifier: Apache-2.0
"""Caches that are chosen by the configuration: included, excluded, pinned."""

from __future__ import annotations

import re

import pytest

from slabmon.base.errors import UsageError
from slabmon.export.choice import CacheChoice, patterns
from slabmon.export.metrics import Daemon
from slabmon.export.prometheus import Exporter
from slabmon.model import Cache, Live, Snapshot
from tests.support.builders import cache, snapshot
from tests.unit.export.test_series import lines

MANY = 300  # more than have series of their own below
BOUND = 1000


def host(*more: Cache) -> Snapshot:
    many = (
        cache(f"cache-{i}", allocated_bytes=1000 + i, live=Live(1, 64 * i)) for i in range(MANY)
    )
    return snapshot(caches=(*many, *more))


def shown(
    choice: CacheChoice, host: Snapshot, exporter: Exporter | None = None
) -> dict[str, float]:
    found = lines(exporter or Exporter(BOUND, choice), host)
    rows = (re.fullmatch(r'slabmon_cache_live_bytes{cache="(.+)"} (.+)', line) for line in found)
    return {row[1]: float(row[2]) for row in rows if row}


def test_a_small_cache_has_no_series_of_its_own() -> None:
    assert "kmalloc-64" not in shown(CacheChoice(), host(cache("kmalloc-64", live=Live(1, 64))))


@pytest.mark.parametrize("pattern", ["kmalloc-cg-64", "kmalloc-64", "kmalloc-*", "UNIX"])
def test_a_pinned_cache_always_has_one(pattern: str) -> None:
    """By its name, its family, a pattern or an alias: today and tomorrow."""
    small = cache("kmalloc-cg-64", aliases=("UNIX",), live=Live(1, 64))
    choice = CacheChoice(pin=(pattern,))
    exporter = Exporter(BOUND, choice)
    for _ in range(3):
        assert shown(choice, host(small), exporter)["kmalloc-cg-64"] == 64


def test_what_is_excluded_or_not_included_is_part_of_the_others() -> None:
    big = cache("big", allocated_bytes=1 << 40, live=Live(1, 1 << 30))
    for choice in (CacheChoice(exclude=("b*",)), CacheChoice(include=("cache-*",))):
        found = shown(choice, host(big))
        assert "big" not in found
        assert found["other"] >= 1 << 30
        assert sum(found.values()) == sum(row.live.bytes for row in host(big).caches)


def test_pinned_goes_before_excluded() -> None:
    choice = CacheChoice(include=("x",), exclude=("cache-*",), pin=("cache-0",))
    found = shown(choice, host())
    assert set(found) == {"cache-0", "other"}


def test_all_that_have_no_series_are_counted() -> None:
    found = lines(Exporter(100_000, CacheChoice(include=("cache-1?",))), host())
    assert f'slabmon_folded_series{{family="cache"}} {MANY - 10}.0' in found


def test_counters_of_caches_that_were_left_out_stay_in_the_sum() -> None:
    found = lines(Exporter(BOUND, CacheChoice(include=("none",))), host())
    total = sum(row.allocated_bytes for row in host().caches)
    assert f'slabmon_cache_allocated_bytes_total{{cache="other"}} {float(total)}' in found
    assert Daemon().folded == {}


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("", ()), ("  ", ()), ("dentry", ("dentry",)), (" a , b-* ", ("a", "b-*"))],
)
def test_patterns_are_separated_by_commas(text: str, parsed: tuple[str, ...]) -> None:
    assert patterns("cache_pin", text) == parsed


@pytest.mark.parametrize("text", [",", "a,,b", "a,"])
def test_an_empty_pattern_is_a_mistake(text: str) -> None:
    with pytest.raises(UsageError, match="cache_pin: expected names or patterns"):
        patterns("cache_pin", text)


def test_a_pattern_that_no_cache_matches_is_told_with_near_names() -> None:
    """A series that a dashboard or an alert waits for would be missing without a word."""
    merged = cache("signal_cache", aliases=("UNIX",))
    caches = host(merged, cache("kmalloc-cg-64")).caches
    choice = CacheChoice(include=("*",), exclude=("nic_*",), pin=("UNIX", "kmalloc-64", "UNIZ"))
    assert list(choice.unmatched(caches)) == [
        "web.cache_exclude: no cache matches 'nic_*' now; slabmon snapshot lists all",
        "web.cache_pin: no cache matches 'UNIZ' now; near names: UNIX",
    ]
