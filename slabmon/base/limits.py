# SPDX-License-Identifier: Apache-2.0
"""Bounds of settings: a dataclass lists them in LIMITS and checks itself with check_limits()."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from slabmon.base.errors import UsageError

Limits = Mapping[str, tuple[float, float]]


class Limited(Protocol):
    """A dataclass with LIMITS, by field name. A field that is None is not checked."""

    LIMITS: ClassVar[Limits]


def number(value: float) -> str:
    """Return a number as a person writes it: 1073741824, 0.05."""
    return str(int(value)) if value == int(value) else str(value)


def check_limits(settings: Limited) -> None:
    """Raise UsageError if a field is out of bounds. The message begins with its name."""
    for name, (low, high) in settings.LIMITS.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"{name} is {value}; it must be from {number(low)} to {number(high)}")
