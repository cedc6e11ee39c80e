# SPDX-License-Identifier: Apache-2.0
"""Settings of a tracking session, and the filter of exact mode."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from slabmon.base.errors import UsageError
from slabmon.base.limits import Limits, check_limits
from slabmon.kernel.bpf.header import CONSTANTS

POOL_STEP, TAG_WAYS, TAG_PROBES = (
    CONSTANTS[name] for name in ("POOL_STEP", "TAG_WAYS", "TAG_PROBES")
)
_LANES_BYTES = 1 << 29  # of all CPUs: BPF_MAX_VAR_OFF (include/linux/bpf_verifier.h)
FILTER_KEYS = ("cache", "module", "site", "min_size", "max_size", "cgroup")


@dataclass(frozen=True)
class Filter:
    """What exact mode tracks: all that is set must match. Sizes are requested bytes."""

    cache: str | None = None
    module: str | None = None
    site: str | None = None
    min_size: int | None = None
    max_size: int | None = None
    cgroup: str | None = None

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Reads `key=value[,key=value]`."""
        values: dict[str, str | int] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            key, equals, value = part.partition("=")
            if key not in FILTER_KEYS or not equals or not value:
                raise UsageError(
                    f"filter {part!r} is not KEY=VALUE with a key of {', '.join(FILTER_KEYS)}"
                )
            if key in values:
                raise UsageError(f"filter key {key!r} is given twice; give it once")
            if key.endswith("_size"):
                if not value.isdecimal() or len(value) > 12 or int(value) == 0:
                    raise UsageError(f"filter {part!r}: a size is a positive number of bytes")
                values[key] = int(value)
            else:
                values[key] = value
        if not values:
            raise UsageError("the filter is empty; give KEY=VALUE, for example cache=kmalloc-64")
        result = cls(**values)  # type: ignore[arg-type]
        if result.min_size and result.max_size and result.min_size > result.max_size:
            raise UsageError("filter: min_size is above max_size; nothing can match")
        if result.module and result.site:
            raise UsageError("filter: module and site cannot be combined; a site has its module")
        return result


@dataclass(frozen=True)
class Settings:
    """What is tracked and how large the tables are. None: a default scaled to the CPUs.

    sample_bytes: mean allocated bytes between samples. site_slots, cache_slots: per program and
    possible CPU, a power of two. samples (a multiple of 4096), caches, stacks: entries.
    """

    LIMITS: ClassVar[Limits] = {
        "sample_bytes": (64, 1 << 30),
        "stack_frames": (0, 127),
        "site_slots": (64, 1 << 15),
        "cache_slots": (64, 1 << 15),
        "samples": (POOL_STEP, 1 << 22),
        "caches": (256, 1 << 16),
        "stacks": (256, 1 << 20),
    }

    sample_bytes: int = 128 * 1024
    exact: Filter | None = None
    pages: bool = False
    stack_frames: int = 32
    site_slots: int | None = None
    cache_slots: int | None = None
    samples: int = 128 * 1024
    caches: int = 2048
    stacks: int = 16 * 1024

    def __post_init__(self) -> None:
        check_limits(self)
        for name in ("site_slots", "cache_slots"):
            value = getattr(self, name)
            if value is not None and value & (value - 1):
                raise UsageError(f"{name} is {value}; it must be a power of two")
        if self.samples % POOL_STEP:
            raise UsageError(f"samples is {self.samples}; it must be a multiple of {POOL_STEP}")

    def scaled(self, cpus: int) -> Settings:
        """Fills in defaults for a number of possible CPUs.

        4096 slots of 64 bytes per program and CPU; halved while all lanes would exceed 64 MiB,
        down to 512: on large machines each CPU sees a share of the call sites only. Raises
        UsageError where what is asked for exceeds what programs can address.
        """
        slots = 4096
        while slots > 512 and cpus * slots * 64 * 2 > 64 << 20:
            slots //= 2
        room = _LANES_BYTES // cpus // 64 - 4  # each lane has a head as large as four slots
        most = 1 << room.bit_length() - 1
        for name in ("site_slots", "cache_slots"):
            if (getattr(self, name) or 0) > most:
                raise UsageError(
                    f"{name} is {getattr(self, name)}; with {cpus} possible CPUs at most {most}"
                )
        return replace(
            self,
            site_slots=self.site_slots or slots,
            cache_slots=self.cache_slots or min(1024, most),
        )
