# SPDX-License-Identifier: Apache-2.0
"""The web process imports all it needs before it gives its privileges up."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Imported on first use by numpy, Tornado and the views.
LATE = ("tornado.platform.asyncio", "slabmon.analysis.drivers", "re2")


@pytest.mark.parametrize("module", ["slabmon.web.process", "slabmon.web.feeds.replay"])
def test_nothing_is_left_to_import_where_it_may_not_be_readable(module: str) -> None:
    code = f"import {module}, sys; print([n for n in {LATE!r} if n not in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
