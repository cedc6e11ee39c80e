# SPDX-License-Identifier: Apache-2.0
"""What a daemon that was killed has left in the kernel, to be told to people."""

from __future__ import annotations

import contextlib
from pathlib import Path

from slabmon.state.descriptor_store import Pins


def left_behind(directory: Path, lock_file: Path) -> int:
    """How many kernel objects are pinned there while no daemon runs. Takes no lock: a daemon that
    starts at this moment must not find it taken."""
    with contextlib.suppress(OSError):
        holder = lock_file.read_text(errors="replace").strip()
        if holder.isdecimal() and Path(f"/proc/{holder}").exists():
            return 0
    return len(Pins(directory).names())
