# SPDX-License-Identifier: Apache-2.0
"""The [state] table of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slabmon.base.errors import UsageError

BPFFS = Path("/sys/fs/bpf")


@dataclass(frozen=True)
class StateSettings:
    """How counters are kept across restarts of the daemon.

    `keep` switches that on. Only one daemon at a time holds `lock_file`. Without systemd, kernel
    objects are pinned in `pin_directory`.
    """

    keep: bool = True
    lock_file: str = "/run/slabmon/lock"
    pin_directory: str = f"{BPFFS}/slabmon"

    def __post_init__(self) -> None:
        for name in ("lock_file", "pin_directory"):
            path = getattr(self, name)
            if not path.startswith("/") or "\0" in path:
                raise UsageError(f"{name} is {path!r}; it must be an absolute path")
        if not Path(self.pin_directory).is_relative_to(BPFFS) or ".." in self.pin_directory:
            raise UsageError(
                f"pin_directory is {self.pin_directory!r}; it must lie below {BPFFS}, where the "
                f"BPF file system is, for example {BPFFS}/slabmon"
            )
