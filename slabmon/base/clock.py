# SPDX-License-Identifier: Apache-2.0
"""The clock that ages of figures are measured with, and how it differs from the other one."""

from __future__ import annotations

import time


def boottime() -> float:
    """Return CLOCK_BOOTTIME in seconds, which goes on while the host is suspended: what was read
    before a night's suspension is old afterwards.

    Time limits, intervals and shares of CPU time are measured with CLOCK_MONOTONIC
    (time.monotonic()), which stands still then: nobody is late for a request because of it.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def suspended() -> float:
    """Return for how many seconds the host has been suspended since it booted."""
    return boottime() - time.monotonic()
