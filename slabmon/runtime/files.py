# SPDX-License-Identifier: Apache-2.0
"""Detects that a file has changed."""

from __future__ import annotations

import os

Identity = tuple[int, ...]


def identity(path: str) -> Identity:
    """Return a value that changes whenever the file does; empty while it cannot be examined."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ()
    return status.st_mtime_ns, status.st_ino, status.st_dev, status.st_size
