# SPDX-License-Identifier: Apache-2.0
"""Types of fields that snapshots and censuses share.

Bounds are not checked when an object is created in this process, only when one is decoded that
comes from a file or over a connection (slabmon.store.codec, slabmon.census.codec).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from slabmon.base.escape import HARMLESS

Int = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]  # fits numpy's int64
Real = Annotated[float, Meta(ge=-1e300, le=1e300)]  # finite
Text = Annotated[str, Meta(pattern=HARMLESS, max_length=1 << 16)]


@dataclass(frozen=True)
class Host:
    """One machine and boot. `memory_bytes` is the memory that the kernel manages (0: not known)."""

    release: Text
    machine: Text
    cpus: Int
    boot_id: Text
    memory_bytes: Int = 0
