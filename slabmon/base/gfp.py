# SPDX-License-Identifier: Apache-2.0
"""The modifiers of GFP flags that are counted: `zero` is __GFP_ZERO, and so on
(include/linux/gfp_types.h). One allocation may have several."""

from __future__ import annotations

MODIFIERS = (
    "zero",
    "account",
    "high",
    "nowarn",
    "noretry",
    "retry_mayfail",
    "nofail",
    "comp",
    "dma",
    "dma32",
)
