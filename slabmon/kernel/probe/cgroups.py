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
    """Paths of cgroups by id. The hierarchy is searched when an unknown id turns up.

    Ids are never reused and cgroups of v2 cannot be renamed, so a path found once stays right.
    """

    def __init__(self, mounts: Path = _MOUNTS) -> None:
        self._mounts = mounts
        self._root = self._find_root()
        self._names: dict[int, str] = {}

    def _find_root(self) -> str | None:
        for line in self._mounts.read_text().splitlines():
            fields = line.split()
            if fields[2] == "cgroup2":
                return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1])
        return None

    def _scan(self) -> dict[int, str]:
        """Return the paths of all cgroups by id; {} while the hierarchy is not mounted."""
        names: dict[int, str] = {}
        if self._root is None:
            self._root = self._find_root()
        if self._root is None:
            return names
        for path, _, _ in os.walk(self._root):
            try:
                name = escape(os.fsencode(path.removeprefix(self._root) or "/"))
                names[os.stat(path).st_ino] = name
            except OSError:
                continue
        return names

    def names(self, ids: Iterable[int]) -> dict[int, str]:
        """Return paths from the root of the hierarchy.

        A cgroup removed since it was first named keeps its path, one removed earlier is its id in
        brackets. Paths of cgroups that are neither there nor among `ids` are forgotten.
        """
        ids = list(ids)
        if any(number not in self._names for number in ids):
            known = self._names
            self._names = self._scan()
            for number in ids:
                if number in known:
                    self._names.setdefault(number, known[number])
        if self._root is not None:  # what is not there now will not come back
            for number in ids:
                self._names.setdefault(number, f"[{number}]")
        return {number: self._names.get(number, f"[{number}]") for number in ids}

    def find(self, path: str) -> int:
        """Return the id of a cgroup by its path from the root.

        Raises UsageError if it does not exist or no cgroup v2 hierarchy is mounted.
        """
        self._root = self._root or self._find_root()
        if self._root is None:
            raise UsageError("filter: no cgroup v2 hierarchy is mounted here")
        try:
            return os.stat(f"{self._root}/{path.strip('/')}").st_ino
        except OSError as error:
            raise UsageError(f"filter: cgroup {path!r}: {error.strerror}") from error
