# SPDX-License-Identifier: Apache-2.0
"""Markers, and the rule that a test which must run here does not get skipped.

SLABMON_REQUIRE lists what this machine can do (live, vm, browser, servers): a skip for want of it
is a failure.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator

import pytest

CHROMIUM = "/usr/bin/chromium"
SERVERS = (
    "prometheus",
    "promtool",
    "prometheus-alertmanager",
    "amtool",
    "victoria-metrics",
    "vmalert",
)
_REQUIRED = set(filter(None, os.environ.get("SLABMON_REQUIRE", "").split(",")))


def _missing(marker: str) -> str | None:
    """Why tests of this kind cannot run here; None: they can."""
    if marker == "browser":
        return None if os.path.exists(CHROMIUM) else "needs Debian's chromium"
    if marker == "servers":
        missing = [name for name in SERVERS if shutil.which(name) is None]
        return f"needs Debian's {', '.join(missing)}" if missing else None
    if os.geteuid() != 0:
        return "needs root"
    if marker == "live" and not os.path.exists("/sys/kernel/btf/vmlinux"):
        return "this kernel has no BTF"
    if marker == "vm" and shutil.which("apt-get") is None:
        return "virtual machines are made from Debian packages"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in ("live", "vm", "browser", "servers"):
        if item.get_closest_marker(marker) is None:
            continue
        reason = _missing(marker)
        if reason is None:
            continue
        if marker in _REQUIRED:
            pytest.fail(f"SLABMON_REQUIRE={marker}, but: {reason}", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A command run in this process sets logging up for its life; what others log afterwards would
    go to a stream that is closed, and pytest would keep it with all it refers to."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
