# SPDX-License-Identifier: Apache-2.0
"""The web process imports all it needs before it gives its privileges up."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

# Imported on first use by numpy, Tornado and the views.
LATE = ("tornado.platform.asyncio", "slabmon.analysis.drivers", "re2")
# Sets are made by np.unique(), which imports it unless it is to return more.
MASKED = ("np.median", "np.isin", "np.union1d", "np.setdiff1d", "np.intersect1d")


@pytest.mark.parametrize("module", ["slabmon.web.process", "slabmon.web.feeds.replay"])
def test_nothing_is_left_to_import_where_it_may_not_be_readable(module: str) -> None:
    code = f"import {module}, sys; print([n for n in {LATE!r} if n not in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_nothing_calls_what_imports_numpy_ma() -> None:
    """Of numpy's functions these do so when they are called."""
    code = (
        "import slabmon.web.process, slabmon.daemon.collector, slabmon.kernel.session, sys; "
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('slabmon.') "
        "and not n.startswith('slabmon.kernel.census')))"  # that runs in a process that ends
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    files = done.stdout.split()
    assert len(files) > 50
    for file in files:
        for node in ast.walk(ast.parse(Path(file).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = ast.unparse(node.func)
                masked = name in MASKED or (name == "np.unique" and not node.keywords)
                assert not masked, f"{file}:{node.lineno}: {name}()"
