# SPDX-License-Identifier: Apache-2.0
"""Settings of a tracking session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

from slabmon.base.errors import UsageError
from slabmon.base.limits import Limits, check_limits
from slabmon.base.parse import duration
from slabmon.kernel.bpf.header import CONSTANTS
from slabmon.kernel.exact_filter import Filter

POOL_STEP, TAG_WAYS, TAG_PROBES = (
    CONSTANTS[name] for name in ("POOL_STEP", "TAG_WAYS", "TAG_PROBES")
)
# Bytes of the lanes of all CPUs that a program can address: BPF_MAX_VAR_OFF
# (include/linux/bpf_verifier.h).
_LANES_BYTES = 1 << 29
_SHORTEST_WAKE_SECONDS = 3600


class When(StrEnum):
    """When allocation events are counted: while something grows, always, or never."""

    AUTO = "auto"
    ALWAYS = "always"
    OFF = "off"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of tracking: what is tracked, and the sizes of the kernel's tables.

    `sample_bytes` is the mean number of allocated bytes between samples. `site_slots` and
    `cache_slots` are per program and possible CPU, powers of two; None scales them to the number
    of CPUs. `samples` (a multiple of 4096), `caches` and `stacks` are numbers of entries.
    `slabinfo` allows to read /proc/slabinfo, which takes the locks of all caches. `when` says when
    allocation events are counted. With "auto" they also are at every `wake_interval` (as
    slabmon.base.parse reads it; 0: not by the clock).
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
    slabinfo: bool = True
    when: When = When.ALWAYS
    wake_interval: str = "0"

    def __post_init__(self) -> None:
        check_limits(self)
        for name in ("site_slots", "cache_slots"):
            value = getattr(self, name)
            if value is not None and value & (value - 1):
                raise UsageError(f"{name} is {value}; it must be a power of two")
        if self.when != When.ALWAYS and self.exact:
            raise UsageError(
                f"tracking is {self.when}, and exact is set: exact mode tracks from the start; use "
                "tracking = always, or leave exact unset"
            )
        if self.when == When.AUTO and not self.slabinfo:
            raise UsageError(
                "tracking is auto, and slabinfo is false: growth is seen in /proc/slabinfo; allow "
                "it, or use tracking = always or off"
            )
        self._check_wake_interval()
        if self.samples % POOL_STEP:
            raise UsageError(f"samples is {self.samples}; it must be a multiple of {POOL_STEP}")

    def _check_wake_interval(self) -> None:
        try:
            seconds = self.wake_seconds
        except UsageError as error:
            raise UsageError(f"wake_interval: {error}") from error
        if 0 < seconds < _SHORTEST_WAKE_SECONDS:
            raise UsageError(
                f"wake_interval: expected 0 or at least 1h, got {self.wake_interval}: tracking "
                "stays awake for half an hour"
            )
        if seconds and self.when != When.AUTO:
            raise UsageError(
                f"wake_interval is {self.wake_interval}, which has an effect only where tracking "
                f"is auto; it is {self.when}"
            )

    @property
    def wake_seconds(self) -> float:
        """wake_interval in seconds."""
        return duration(self.wake_interval)

    def scaled(self, cpus: int) -> Settings:
        """Return the settings with defaults for a number of possible CPUs filled in.

        4096 slots of 64 bytes per program and CPU, halved while all lanes exceed 64 MiB, down to
        512: on large machines each CPU sees only a share of the call sites. Raises UsageError if
        the programs cannot address the lanes of all CPUs.
        """
        slots = 4096
        while slots > 512 and cpus * slots * 64 * 2 > 64 << 20:
            slots //= 2
        room = _LANES_BYTES // cpus // 64 - 4  # each lane has a head as large as four slots
        largest = 1 << room.bit_length() - 1
        for name in ("site_slots", "cache_slots"):
            if (getattr(self, name) or 0) > largest:
                raise UsageError(
                    f"{name} is {getattr(self, name)}; with {cpus} possible CPUs at most {largest}"
                )
        return replace(
            self,
            site_slots=self.site_slots or slots,
            cache_slots=self.cache_slots or min(1024, largest),
        )
