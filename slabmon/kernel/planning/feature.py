# SPDX-License-Identifier: Apache-2.0
"""The state of one capability of slabmon on one host."""

from __future__ import annotations

from dataclasses import dataclass

ON, DEGRADED, OFF = "on", "degraded", "off"


@dataclass(frozen=True)
class Feature:
    """State of one capability: on, degraded or off, and why."""

    state: str
    reason: str = ""
