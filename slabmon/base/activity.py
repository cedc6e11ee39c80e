# SPDX-License-Identifier: Apache-2.0
"""Whether allocation events are counted, and how closely objects are tracked."""

from __future__ import annotations

from enum import StrEnum


class Activity(StrEnum):
    """Events are counted; they are not until something grows; or they are not at all."""

    AWAKE = "awake"
    ASLEEP = "asleep"
    OFF = "off"


class Stage(StrEnum):
    """How closely objects are tracked while events are counted: hardly any, which is cheapest; a
    sample; or each one that the filter of exact mode selects."""

    LIGHT = "light"
    SAMPLED = "sampled"
    EXACT = "exact"
