# SPDX-License-Identifier: Apache-2.0
"""cgroup v2 ids and paths. A cgroup's id is the inode number of its directory (kernfs)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from slabmon.base.errors import UsageError
from slabmon.base.escape import escape

_MOUNTS = Path("/proc/self/mounts")


class Cgroups:
    """Names of cgroups by id, read again when an unknown id turns up."""

    def __init__(self, mounts: Path = _MOUNTS) -> None:
        self._root: str | None = None
        for line in mounts.read_text().splitlines():
            fields = line.split()
            if fields[2] == "cgroup2":
                self._root = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1])
                break
        self._names: dict[int, str] = {}

    def _scan(self) -> None:
        if self._root is not None:
            for path, _, _ in os.walk(self._root):
                try:
                    name = escape(os.fsencode(path.removeprefix(self._root) or "/"))
                    self._names[os.stat(path).st_ino] = name
                except OSError:
                    continue

    def names(self, ids: Iterable[int]) -> dict[int, str]:
        """Paths from the hierarchy's root; a cgroup that is gone keeps its id in brackets."""
        ids = list(ids)
        if any(number not in self._names for number in ids):
            self._scan()
        for number in ids:
            self._names.setdefault(number, f"[{number}]")
        return {number: self._names[number] for number in ids}

    def find(self, path: str) -> int:
        """Id of a cgroup by its path from the root."""
        if self._root is None:
            raise UsageError("filter: no cgroup v2 hierarchy is mounted here")
        try:
            return os.stat(f"{self._root}/{path.strip('/')}").st_ino
        except OSError as error:
            raise UsageError(f"filter: cgroup {path!r}: {error.strerror}") from error
