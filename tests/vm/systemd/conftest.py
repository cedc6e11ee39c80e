# SPDX-License-Identifier: Apache-2.0
"""Tests of the installed service, in a guest with systemd as process 1 and nowhere else:
tests/vm/test_service.py boots it. They are one sequence, in the order of the files' names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.vm.systemd.story import Story

if "SLABMON_VM_GUEST" not in os.environ or Path("/proc/1/comm").read_text() != "systemd\n":
    raise pytest.UsageError(
        "tests/vm/systemd runs in a guest with systemd: see tests/vm/test_service.py"
    )


@pytest.fixture(scope="session")
def story() -> Story:
    return Story()
