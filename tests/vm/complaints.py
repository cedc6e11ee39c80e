# SPDX-License-Identifier: Apache-2.0
"""Messages that a healthy kernel never prints."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Word boundaries keep DEBUG and the like out.
_PATTERN = re.compile(
    r"\bWARNING:|\bBUG\b|\bOops\b|Kernel panic|general protection|\bKASAN\b|\bUBSAN\b"
    r"|rcu.*(?:stall|self-detected)|soft lockup|hard LOCKUP|blocked for more than"
    r"|refcount_t|list_(?:add|del) corruption|Unable to handle|Call Trace"
    r"|slab.*(?:still has|remaining)|Objects remaining"
)


def complaints(lines: Iterable[str]) -> list[str]:
    """Lines of a kernel log that mean a bug, each once. The trace of who asked for memory when a
    process is killed for lack of it means none."""
    found: dict[str, None] = {}
    killing = False
    for line in lines:
        killing = "invoked oom-killer" in line or (killing and "oom-kill:" not in line)
        if _PATTERN.search(line) and not (killing and "Call Trace" in line):
            found[line] = None
    return list(found)
