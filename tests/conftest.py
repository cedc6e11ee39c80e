"""Markers, and the rule that a test which must run here does not get skipped.

SLABMON_REQUIRE lists what this machine can do (live, vm, browser): a skip for want of it is a
failure.
"""

from __future__ import annotations

import os
import shutil

import pytest

CHROMIUM = "/usr/bin/chromium"
_REQUIRED = set(filter(None, os.environ.get("SLABMON_REQUIRE", "").split(",")))


def _missing(marker: str) -> str | None:
    """Why tests of this kind cannot run here; None: they can."""
    if marker == "browser":
        return None if os.path.exists(CHROMIUM) else "needs Debian's chromium"
    if os.geteuid() != 0:
        return "needs root"
    if marker == "live" and not os.path.exists("/sys/kernel/btf/vmlinux"):
        return "this kernel has no BTF"
    if marker == "vm" and shutil.which("apt-get") is None:
        return "virtual machines are made from Debian packages"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in ("live", "vm", "browser"):
        if item.get_closest_marker(marker) is None:
            continue
        reason = _missing(marker)
        if reason is None:
            continue
        if marker in _REQUIRED:
            pytest.fail(f"SLABMON_REQUIRE={marker}, but: {reason}", pytrace=False)
        pytest.skip(reason)
