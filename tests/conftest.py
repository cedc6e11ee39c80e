# SPDX-License-Identifier: Apache-2.0
"""Kinds of tests: what each needs, how long it may take, and which may not be skipped.

SLABMON_REQUIRE lists the capabilities of this machine (live, vm, browser, servers): a test skipped
for lack of one of them fails instead. SLABMON_SEED repeats a test that draws random numbers.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import shutil
import signal
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
# Seconds that a test of each kind may take; others have `timeout` of pyproject.toml.
TIMEOUTS = {"vm": 3600, "servers": 900, "live": 600, "browser": 300}
_REQUIRED = set(filter(None, os.environ.get("SLABMON_REQUIRE", "").split(",")))


def _missing(marker: str) -> str | None:
    """Return why tests of this kind cannot run here, or None if they can."""
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


def pytest_configure() -> None:
    """Let commands of tests start with the usual actions for signals of a terminal: a shell that
    runs the tests in the background has them ignored, and a command cannot undo that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        kinds = [kind for kind in TIMEOUTS if item.get_closest_marker(kind)]
        if kinds and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(max(TIMEOUTS[kind] for kind in kinds)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in TIMEOUTS:
        if item.get_closest_marker(marker) is None:
            continue
        reason = _missing(marker)
        if reason is None:
            continue
        if marker in _REQUIRED:
            pytest.fail(f"SLABMON_REQUIRE={marker}, but: {reason}", pytrace=False)
        pytest.skip(reason)


@pytest.fixture
def rng() -> random.Random:
    """A generator of random numbers; a failure shows the seed with which to repeat it."""
    seed = int(os.environ.get("SLABMON_SEED") or secrets.randbits(32))
    print(f"repeat with SLABMON_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Undo the logging set-up of a command run in this process: later messages would go to a
    closed stream, and pytest would keep that stream with everything it refers to."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
