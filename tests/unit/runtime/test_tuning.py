# SPDX-License-Identifier: Apache-2.0
"""Tuning of long-running processes."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from slabmon.runtime.tuning import raise_gc_threshold, release_memory


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_a_large_snapshot_does_not_start_the_garbage_collector() -> None:
    raise_gc_threshold()
    assert gc.get_threshold()[0] >= 100_000


class Node:
    """Refers to itself."""

    def __init__(self) -> None:
        self.self = self


def test_garbage_in_cycles_is_released() -> None:
    raise_gc_threshold()
    gone = weakref.ref(Node())
    assert gone() is not None
    release_memory()
    assert gone() is None


def test_a_large_block_that_is_freed_does_not_stay_in_the_process() -> None:
    """Without the limit the second half stays: the first has raised malloc's threshold."""
    program = """
import re
from slabmon.runtime.tuning import limit_malloc_caching
def anonymous():
    with open("/proc/self/smaps_rollup") as file:
        return int(re.search(r"Anonymous: +(\\d+)", file.read())[1]) >> 10
limit_malloc_caching()
before = anonymous()
large = bytearray(b"x" * (16 << 20))
del large
parts = [bytearray(b"x" * (1 << 20)) for _ in range(16)]
last = bytearray(b"x" * 1000)
del parts
assert anonymous() - before < 4, (before, anonymous())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
