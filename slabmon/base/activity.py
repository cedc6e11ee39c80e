# SPDX-License-Identifier: Apache-2.0
"""Whether allocation events are counted."""

from __future__ import annotations

from enum import StrEnum


class Activity(StrEnum):
    """Events are counted; they are not until something grows; or they are not at all."""

    AWAKE = "awake"
    ASLEEP = "asleep"
    OFF = "off"
