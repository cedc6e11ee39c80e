# SPDX-License-Identifier: Apache-2.0
"""How this guest must have been booted. Its tests fail elsewhere, and are never skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

_CMDLINE, _MEMINFO = Path("/proc/cmdline"), Path("/proc/meminfo")


def require_argument(argument: str) -> None:
    """Raise UsageError unless the kernel was booted with this argument."""
    if argument not in _CMDLINE.read_text().split():
        raise pytest.UsageError(f"boot with it: python -m tests.vm --kernel-args {argument}")


def require_memory(most_mib: int) -> None:
    """Raise UsageError unless the guest has at most this much memory."""
    if int(_MEMINFO.read_text().split()[1]) > most_mib << 10:
        raise pytest.UsageError(f"boot with less memory: python -m tests.vm --memory {most_mib}M")
