# SPDX-License-Identifier: Apache-2.0
"""Where kernel objects are kept while no daemon runs.

That is systemd's file descriptor store, else pins in a BPF file system. Object names are those of
Programs.objects().
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from slabmon.kernel.bpf import syscall
from slabmon.runtime.systemd import Notifier
from slabmon.state.settings import BPFFS

log = logging.getLogger(__name__)

KINDS = ("map-", "program-", "link-")
_BUILT_IN = {"maps.debug", "progs.debug"}  # made by the kernel (kernel/bpf/preload)
_SOURCE = "slabmon"  # source of a BPF file system that slabmon mounted
_libc = ctypes.CDLL(None, use_errno=True)


class KeepError(Exception):
    """Objects cannot be kept; the message says why."""


class DescriptorKeeper(Protocol):
    """Keeps kernel objects open by name. `where` describes the place in messages."""

    where: str

    def take(self) -> dict[str, int]:
        """Return descriptors of what an earlier process left; the caller owns them."""

    def keep(self, objects: Mapping[str, int]) -> None:
        """Keep these from now on. Raises KeepError if that fails; then nothing is kept."""

    def forget(self, names: Iterable[str]) -> None:
        """Stop keeping these."""

    def finish(self) -> None:
        """Keep nothing after a requested stop, unless a service manager decides."""


class SystemdStore:
    """systemd's file descriptor store.

    systemd drops everything when the service stops for good, and keeps it across restarts and
    crashes (FileDescriptorStorePreserve=restart).
    """

    where = "systemd's file descriptor store"

    def __init__(self, notifier: Notifier, passed: Iterable[tuple[str, int]]) -> None:
        self._notifier = notifier
        self._passed = {name: fd for name, fd in passed if name.startswith(KINDS)}

    def take(self) -> dict[str, int]:
        """Return the descriptors that systemd passed."""
        objects, self._passed = self._passed, {}
        return objects

    def keep(self, objects: Mapping[str, int]) -> None:
        """Send the descriptors to systemd."""
        # One message for each: a message has one name. FDPOLL=0, because a BPF map polls as
        # broken, and systemd drops descriptors that hang up.
        for name, descriptor in objects.items():
            if not self._notifier.send(
                "FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", descriptors=(descriptor,)
            ):
                self.forget(objects)
                raise KeepError("systemd does not take descriptors")
        self._notifier.barrier()

    def forget(self, names: Iterable[str]) -> None:
        """Have systemd close its copies."""
        for name in names:
            self._notifier.send("FDSTOREREMOVE=1", f"FDNAME={name}")
        self._notifier.barrier()

    def finish(self) -> None:
        """Leave the decision to systemd."""


def _mounts() -> dict[str, tuple[str, str]]:
    """Return type and source of each mount by mount point; the topmost wins."""
    mounts = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, source = after.split()[:2]
        mounts[before.split()[4]] = kind, source
    return mounts


class Pins:
    """Pins in a directory of a BPF file system, which is mounted if it is missing."""

    def __init__(self, directory: Path) -> None:
        self.where = str(directory)
        self._directory = directory

    def take(self) -> dict[str, int]:
        """Open everything that is pinned."""
        objects: dict[str, int] = {}
        for name in self.names():
            with contextlib.suppress(OSError):
                objects[name] = syscall.open_pinned(str(self._directory / name))
        return objects

    def names(self) -> list[str]:
        """Return the names of pinned objects; [] if the directory cannot be read."""
        try:
            return sorted(p.name for p in self._directory.iterdir() if p.name.startswith(KINDS))
        except OSError:
            return []

    def keep(self, objects: Mapping[str, int]) -> None:
        """Pin the objects."""
        self._mount()
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, descriptor in objects.items():
                with contextlib.suppress(FileExistsError):  # kept already
                    syscall.pin(descriptor, str(self._directory / name))
        except OSError as error:
            self.finish()
            raise KeepError(f"cannot pin in {self._directory}: {error.strerror}") from error

    def forget(self, names: Iterable[str]) -> None:
        """Unpin the objects."""
        for name in names:
            with contextlib.suppress(OSError):
                (self._directory / name).unlink()

    def finish(self) -> None:
        """Unpin everything, and undo a mount of slabmon's that nobody else uses."""
        self.forget(self.names())
        with contextlib.suppress(OSError):
            self._directory.rmdir()
        with contextlib.suppress(OSError, ValueError):
            others = {path.name for path in BPFFS.iterdir()} - _BUILT_IN
            if _mounts().get(str(BPFFS)) == ("bpf", _SOURCE) and not others:
                _libc.umount2(os.fsencode(BPFFS), 0)

    def _mount(self) -> None:
        if not self._directory.is_relative_to(BPFFS) or "bpf" in _mounts().get(str(BPFFS), ()):
            return
        if _libc.mount(_SOURCE.encode(), os.fsencode(BPFFS), b"bpf", 0, b"mode=0700"):
            raise KeepError(
                f"{BPFFS} is not a BPF file system and none can be mounted: "
                f"{os.strerror(ctypes.get_errno())}"
            )
        log.info("mounted a BPF file system on %s", BPFFS)


def left_behind(directory: Path, lock_file: Path) -> int:
    """Return the number of kernel objects that a killed daemon left pinned.

    It is 0 while a daemon runs. The lock is not taken: a daemon that starts at this moment must
    not find it taken.
    """
    with contextlib.suppress(OSError):
        holder = lock_file.read_text(errors="replace").partition("\n")[0]
        if holder.isdecimal() and Path(f"/proc/{holder}").exists():
            return 0
    return len(Pins(directory).names())
