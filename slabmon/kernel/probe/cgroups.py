# SPDX-License-Identifier: Apache-2.0
"""Ids and paths of the cgroups that memory is charged to: those of the hierarchy of cgroup v1 that
has the memory controller, else those of cgroup v2. A cgroup's id is the inode number of its
directory (kernfs)."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from slabmon.base.errors import UsageError
from slabmon.base.escape import escape
from slabmon.base.names import with_near_names

_MOUNTS = Path("/proc/self/mounts")
# Names kept besides those of cgroups that still have objects: of the ones asked for last.
MAX_NAMES = 8192
# Between walks through the hierarchy, which take milliseconds per thousand cgroups.
WALK_SECONDS = 30.0
_MAX_WALKED = 1 << 17  # cgroups of one walk
_FILEID_KERNFS = 0xFE  # include/linux/exportfs.h
_ROOT_INODE = 1
_MAX_SIBLINGS = 4096  # names compared with one that does not exist
_libc = ctypes.CDLL(None, use_errno=True)

# The level of a cgroup where it is not known: seen from a cgroup namespace, or a mount of a part.
ANY_LEVEL = -1


class Cgroups:
    """Paths of cgroups by id.

    Ids are never reused and hardly anybody renames cgroups (those of v2 cannot be), so a path found
    once stays right: a removed cgroup keeps its name. An unknown id is opened by file handle, which
    needs CAP_DAC_READ_SEARCH; without it the hierarchy is walked, at most every WALK_SECONDS. `v1`:
    memory is charged by cgroup v1.
    """

    def __init__(
        self,
        mounts: Path = _MOUNTS,
        clock: Callable[[], float] = time.monotonic,
        *,
        v1: bool = False,
    ) -> None:
        self._mounts, self._clock, self._v1 = mounts, clock, v1
        self._root = self._find_root()
        self._names: dict[int, str] = {}  # least recently asked for first
        self._walked: float | None = None
        self._handles = True

    def _find_root(self) -> str | None:
        for line in self._mounts.read_text(errors="surrogateescape").splitlines():
            fields = line.split()
            memory = fields[2] == "cgroup" and "memory" in fields[3].split(",")
            if memory if self._v1 else fields[2] == "cgroup2":
                return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1])
        return None

    def names(self, ids: Iterable[int]) -> dict[int, str]:
        """Return paths from the root of the hierarchy.

        A cgroup removed since it was first named keeps its path; one that was never seen is its id
        in brackets.
        """
        ids = list(ids)
        self._root = self._root or self._find_root()
        unknown = {number for number in ids if number not in self._names}
        if unknown and self._root is not None:
            self._learn(unknown, self._root)
        known = {number: self._names.pop(number) for number in ids if number in self._names}
        for number in list(self._names)[: max(0, len(self._names) - MAX_NAMES)]:
            del self._names[number]
        self._names |= known
        return {number: known.get(number, f"[{number}]") for number in ids}

    def _learn(self, unknown: set[int], root: str) -> None:
        """Find the names of these ids. What is not there now will not come back."""
        if self._walked is None:  # once, also for cgroups that are soon removed
            self._walk(root)
        unknown -= self._names.keys()
        if unknown and self._handles:
            names = self._open_all(unknown, root)
            if names is not None:
                self._names |= names
                return
            self._handles = False
        due = self._walked is None or self._clock() - self._walked >= WALK_SECONDS
        if unknown and due:
            self._walk(root)
            self._names |= {
                number: f"[{number}]" for number in unknown if number not in self._names
            }

    def _open_all(self, ids: Iterable[int], root: str) -> dict[int, str] | None:
        """Return the paths of these ids by file handle; None if that is not permitted."""
        names = {}
        mount = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for number in ids:
                path = _open_by_id(mount, number)
                if path is None:
                    return None
                names[number] = _name(path, root) if path else f"[{number}]"
        finally:
            os.close(mount)
        return names

    def _walk(self, root: str) -> None:
        self._walked = self._clock()
        for count, (number, path) in enumerate(_directories(root)):
            if count >= _MAX_WALKED:
                break
            self._names.setdefault(number, _name(path, root))

    def oom_kills(self, paths: Iterable[str]) -> dict[str, int]:
        """Return how many processes of each of these cgroups, and of those above them, the kernel
        has killed for lack of memory, where it counts them. memory.events of cgroup v2 counts those
        below too, so that what a removed cgroup had is still in those above it; memory.oom_control
        of v1 does not."""
        if self._root is None:
            return {}
        folders = {""}
        found = {}
        for path in paths:
            folder = path.rstrip("/")
            while folder not in folders and len(folders) <= MAX_NAMES:
                folders.add(folder)
                file = "memory.oom_control" if self._v1 else "memory.events"
                kills = _oom_kills(f"{self._root}{folder}/{file}")
                if kills is not None:
                    found[folder] = kills
                folder = folder.rpartition("/")[0]
        return found

    def find(self, path: str) -> int:
        """Return the id of a cgroup by its path from the root.

        Raises UsageError, with near names, if it does not exist or the hierarchy is not mounted.
        """
        return self.find_at(path)[0]

    def find_at(self, path: str) -> tuple[int, int]:
        """Return the id of a cgroup and the number of its ancestors (ANY_LEVEL: not known)."""
        self._root = self._root or self._find_root()
        if self._root is None:
            raise UsageError(
                f"cgroup={path}: {self._hierarchy()} is not mounted here; filter by pid or site "
                "instead"
            )
        parts = [part for part in path.split("/") if part]
        try:
            number = os.stat("/".join((self._root, *parts))).st_ino
            whole = os.stat(self._root).st_ino == _ROOT_INODE
        except OSError as error:
            near = _similar(self._root, parts)
            problem = f"cgroup={path}: {error.strerror} in {self._hierarchy()}"
            raise UsageError(
                with_near_names(problem, "/" + "/".join(parts), near, "systemd-cgls lists all")
            ) from error
        return number, len(parts) if whole else ANY_LEVEL

    def _hierarchy(self) -> str:
        return f"the {'memory hierarchy of cgroup v1' if self._v1 else 'hierarchy of cgroup v2'}"


def charges_v1(path: Path = Path("/proc/self/cgroup")) -> bool:
    """Return whether memory is charged by a hierarchy of cgroup v1, so that the cgroups of v2, if
    there are any, are not those that hold memory (cgroups(7))."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any("memory" in line.split(":", 2)[1].split(",") for line in lines if ":" in line)


def _oom_kills(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return next((int(line[9:]) for line in file if line.startswith("oom_kill ")), None)
    except (OSError, ValueError):  # removed, never named, or of a controller that is not enabled
        return None


def _name(path: str, root: str) -> str:
    return escape(os.fsencode(path.removeprefix(root) or "/"))


def _directories(root: str) -> Iterator[tuple[int, str]]:
    """Yield inode number and path of each directory from `root` on."""
    try:
        yield os.stat(root).st_ino, root
    except OSError:
        return
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                children = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:  # removed just now
            continue
        for entry in children:
            yield entry.inode(), entry.path
            waiting.append(entry.path)


def _open_by_id(mount: int, number: int) -> str | None:
    """Return the path of a cgroup, "" if it does not exist; None if that is not permitted."""
    # struct file_handle (include/linux/fs.h), of type FILEID_KERNFS (fs/kernfs/mount.c)
    handle = ctypes.create_string_buffer(struct.pack("=IiQ", 8, _FILEID_KERNFS, number), 16)
    descriptor = _libc.open_by_handle_at(mount, handle, os.O_PATH | os.O_CLOEXEC)
    if descriptor < 0:
        return "" if ctypes.get_errno() in (errno.ESTALE, errno.ENOENT) else None
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _similar(root: str, parts: list[str]) -> list[str]:
    """Return the paths of the cgroups beside the first part that does not exist."""
    folder = root
    for part in parts:
        if not os.path.isdir(f"{folder}/{part}"):
            break
        folder = f"{folder}/{part}"
    paths: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(paths) >= _MAX_SIBLINGS:
                    break
                if entry.is_dir(follow_symlinks=False):
                    paths.append(_name(entry.path, root))
    except OSError:
        pass
    return paths
