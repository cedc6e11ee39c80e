# SPDX-License-Identifier: Apache-2.0
"""Whether a file is still the one it was."""

from __future__ import annotations

import os

Identity = tuple[int, ...]


def identity(path: str) -> Identity:
    """What changes when a file does; empty while it cannot be read."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ()
    return status.st_mtime_ns, status.st_ino, status.st_dev, status.st_size
