# SPDX-License-Identifier: Apache-2.0
"""Which seeds thresholds are chosen on, and which the figures are made of."""

from __future__ import annotations

TUNING = range(300)
HELD_OUT = range(300, 600)


def chosen(text: str) -> range:
    """`FIRST-LAST`, all of one half."""
    first, last = (int(part) for part in text.split("-"))
    seeds = range(first, last + 1)
    if not seeds or not any(first in half and last in half for half in (TUNING, HELD_OUT)):
        raise SystemExit(
            f"seeds {text}: give FIRST-LAST within {TUNING.start}-{TUNING.stop - 1} to tune, or "
            f"within {HELD_OUT.start}-{HELD_OUT.stop - 1} for figures"
        )
    return seeds
