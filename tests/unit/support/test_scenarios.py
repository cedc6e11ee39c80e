# SPDX-License-Identifier: Apache-2.0
"""A few of the scenarios, with fixed seeds; `make verdicts` scores them all."""

from __future__ import annotations

import numpy as np
import pytest

from slabmon.analysis.sampling import probability
from tests.scenarios.catalogue import ENTRIES, FAST, Entry
from tests.scenarios.host import Simulation, Stream, World
from tests.scenarios.report import figures
from tests.scenarios.score import Outcome, Score, run
from tests.scenarios.seeds import chosen

pytestmark = pytest.mark.slow

BY_NAME = {entry.name: entry for entry in (*ENTRIES, *FAST)}
LEAKS = ("slow leak", "one a minute, exact", "devm and rebind", "leak, frees unseen")
INNOCENT = ("dentries and inodes", "warm-up", "burst", "lost frees", "counter reset")


@pytest.mark.parametrize("name", LEAKS)
def test_leaks_are_found_and_nothing_else(name: str) -> None:
    outcome = run(BY_NAME[name], 0)
    assert outcome.hits
    assert not outcome.alarms


def test_a_leak_is_found_where_tracking_sleeps_until_something_grows() -> None:
    outcome = run(BY_NAME["slow leak"], 0, sleeps=True)
    assert outcome.hits
    assert not outcome.alarms


@pytest.mark.parametrize("name", INNOCENT)
def test_what_is_no_leak_is_not_called_one(name: str) -> None:
    assert not run(BY_NAME[name], 0).alarms


@pytest.mark.parametrize("seed", [110, 111])
def test_noise_does_not_delay_an_early_finding(seed: int) -> None:
    entry = BY_NAME["1 % a minute"]
    outcome = run(entry, seed)
    assert outcome.delay is not None
    assert outcome.delay <= entry.promised


@pytest.mark.parametrize("seed", [102, 106, 108, 117])
def test_the_first_interval_of_an_early_finding_holds_the_true_growth(seed: int) -> None:
    assert run(BY_NAME["within a day"], seed).covered[0]


@pytest.mark.parametrize(
    ("name", "seed"),
    [("start of a service", 129), ("start of a service", 132), ("small and quiet", 142)],
)
def test_what_fills_is_no_early_finding(name: str, seed: int) -> None:
    assert not run(BY_NAME[name], seed).alarms


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(ENTRIES) + len(FAST)


@pytest.mark.parametrize("entry", BY_NAME.values(), ids=lambda entry: entry.name)
def test_a_seed_makes_the_same_world_again(entry: Entry) -> None:
    first, second = (entry.make(np.random.default_rng(11)) for _ in range(2))
    assert first.truth == second.truth
    assert first.exhausts == second.exhausts
    assert len(first.world.streams) == len(second.world.streams)
    for one, other in zip(first.world.streams, second.world.streams, strict=True):
        np.testing.assert_array_equal(one.births, other.births)
        assert (one.deaths >= one.births).all()


def test_samples_stand_for_what_lives() -> None:
    births = np.linspace(0.001, 100, 200_000)
    stream = Stream(("f", 1, None), "kmalloc-512", 512, births, np.full(len(births), np.inf))
    shown = Simulation(World([stream]), np.random.default_rng(3)).at(100.0)
    tracked = shown.tracked
    weight = 1 / probability(tracked.bytes.astype(float), tracked.interval)
    assert weight.sum() == pytest.approx(200_000, rel=5 / np.sqrt(len(weight)))
    assert shown.caches[0].allocs == shown.sites[0].allocs == 200_000


def test_scores_by_hand() -> None:
    leak, quiet = BY_NAME["slow leak"], BY_NAME["quiet"]
    found = Outcome(leak, 1, True, hits={("site", "a"): 9.0, ("cache", "b"): 9.0}, delay=9.0)
    missed, fine = Outcome(leak, 2, True), Outcome(quiet, 1, False)
    score = Score.of([found, missed, fine])
    assert (score.precision, score.recall) == (1.0, 0.5)
    text = figures([found, missed, fine], "1 to 2")
    assert "| slow leak | 1 of 2 |" in text
    assert "**missed**" in text


@pytest.mark.parametrize("seeds", ["298-301", "5-4", "600-600"])
def test_seeds_are_of_one_half(seeds: str) -> None:
    assert chosen("300-307") == range(300, 308)
    with pytest.raises(SystemExit):
        chosen(seeds)
