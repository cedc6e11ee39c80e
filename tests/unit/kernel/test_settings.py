# SPDX-License-Identifier: Apache-2.0
"""Settings of a tracking session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.errors import UsageError
from slabmon.kernel.bpf.layout import CONSTANTS
from slabmon.kernel.settings import POOL_STEP, TAG_PROBES, TAG_WAYS, Settings

LIMITS = {
    "sample_bytes": (64, 1 << 30),
    "stack_frames": (0, 127),
    "site_slots": (64, 1 << 15),
    "cache_slots": (64, 1 << 15),
    "samples": (4096, 1 << 22),
    "caches": (256, 1 << 16),
    "stacks": (256, 1 << 20),
}


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
