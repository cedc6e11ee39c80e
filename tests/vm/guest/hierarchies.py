# SPDX-License-Identifier: Apache-2.0
"""Hierarchies of cgroups in which memory is charged, of both versions."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

V2 = Path("/sys/fs/cgroup")
WAIT_SECONDS = 30.0


def wait_until(condition: Callable[[], bool]) -> bool:
    """Return whether it came true; cgroups are removed in the background."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return met


def v2_has_memory() -> bool:
    """Return whether the hierarchy of version 2 has the memory controller."""
    return "memory" in (V2 / "cgroup.controllers").read_text().split()


def mounted_v1(top: Path) -> bool:
    """Mount the memory controller of version 1; return whether that was possible. It is not while
    version 2 has it and any cgroup with memory, also a removed one whose page cache is left."""
    (V2 / "cgroup.subtree_control").write_text("-memory" if v2_has_memory() else "")
    Path("/proc/sys/vm/drop_caches").write_text("3")
    return not subprocess.run(["mount", "-t", "cgroup", "-o", "memory", "v1", top]).returncode


@contextmanager
def hierarchy(version: int) -> Iterator[Path]:
    """A cgroup with a memory controller for its children; all of them are removed."""
    if version == 2:
        assert wait_until(v2_has_memory)
        (V2 / "cgroup.subtree_control").write_text("+memory")
        top = V2
    else:
        top = Path("/run/memory-v1")
        top.mkdir(exist_ok=True)
        if not wait_until(lambda: mounted_v1(top)):
            pytest.skip("this kernel has no memory controller of version 1 (CONFIG_MEMCG_V1)")
    parent = top / "slabmon-test"
    parent.mkdir()
    if version == 2:
        (parent / "cgroup.subtree_control").write_text("+memory")
    hierarchical = parent / "memory.use_hierarchy"
    if hierarchical.exists():  # else the root is the parent of all, up to 5.10
        hierarchical.write_text("1")
    try:
        yield parent
    finally:
        for path in (*parent.iterdir(), parent):
            with suppress(NotADirectoryError):
                path.rmdir()
        if version == 1:
            Path("/proc/sys/vm/drop_caches").write_text("3")
            subprocess.run(["umount", top], check=True)
