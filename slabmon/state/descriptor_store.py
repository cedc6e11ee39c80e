# SPDX-License-Identifier: Apache-2.0
"""Where kernel objects are kept while no daemon runs: systemd's file descriptor store, else
names in a BPF file system. Object names are those of `Programs.objects()`."""

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
_BUILT_IN = {"maps.debug", "progs.debug"}  # the kernel's own (kernel/bpf/preload)
_OURS = "slabmon"  # source of a BPF file system that slabmon mounted
_libc = ctypes.CDLL(None, use_errno=True)


class KeepError(Exception):
    """Nothing can be kept there; the message says why."""


class Keeper(Protocol):
    """`where` names the place for people."""

    where: str

    def take(self) -> dict[str, int]:
        """Descriptors of what an earlier process left; the caller owns them."""

    def keep(self, objects: Mapping[str, int]) -> None:
        """Has these kept from now on; KeepError when it fails, and then nothing is kept."""

    def forget(self, names: Iterable[str]) -> None:
        """Has these no longer kept."""

    def finish(self) -> None:
        """The daemon ends on request: nothing stays, unless a service manager decides."""


class DescriptorStore:
    """systemd's store. It lets go of everything by itself when the service stops for good, and
    keeps it over a restart and a crash (FileDescriptorStorePreserve=restart)."""

    where = "systemd's file descriptor store"

    def __init__(self, notifier: Notifier, passed: Iterable[tuple[str, int]]) -> None:
        self._notifier = notifier
        self._passed = {name: fd for name, fd in passed if name.startswith(KINDS)}

    def take(self) -> dict[str, int]:
        taken, self._passed = self._passed, {}
        return taken

    def keep(self, objects: Mapping[str, int]) -> None:
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
        for name in names:
            self._notifier.send("FDSTOREREMOVE=1", f"FDNAME={name}")
        self._notifier.barrier()

    def finish(self) -> None:
        pass


def _mounts() -> dict[str, tuple[str, str]]:
    """Type and source of what is mounted, by mount point; the topmost wins."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, source = after.split()[:2]
        found[before.split()[4]] = kind, source
    return found


class Pins:
    """Names in a directory of a BPF file system, which is mounted where it is missing."""

    def __init__(self, directory: Path) -> None:
        self.where = str(directory)
        self._directory = directory

    def take(self) -> dict[str, int]:
        taken: dict[str, int] = {}
        for name in self.names():
            with contextlib.suppress(OSError):
                taken[name] = syscall.open_pinned(str(self._directory / name))
        return taken

    def names(self) -> list[str]:
        """Of the objects that are there."""
        try:
            return sorted(p.name for p in self._directory.iterdir() if p.name.startswith(KINDS))
        except OSError:
            return []

    def keep(self, objects: Mapping[str, int]) -> None:
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
        for name in names:
            with contextlib.suppress(OSError):
                (self._directory / name).unlink()

    def finish(self) -> None:
        self.forget(self.names())
        with contextlib.suppress(OSError):
            self._directory.rmdir()
        with contextlib.suppress(OSError, ValueError):
            # Only a mount of our own, and only when nobody else has put anything there.
            others = {path.name for path in BPFFS.iterdir()} - _BUILT_IN
            if _mounts().get(str(BPFFS)) == ("bpf", _OURS) and not others:
                _libc.umount2(os.fsencode(BPFFS), 0)

    def _mount(self) -> None:
        if not self._directory.is_relative_to(BPFFS) or "bpf" in _mounts().get(str(BPFFS), ()):
            return
        if _libc.mount(_OURS.encode(), os.fsencode(BPFFS), b"bpf", 0, b"mode=0700"):
            raise KeepError(
                f"{BPFFS} is no BPF file system and none can be mounted: "
                f"{os.strerror(ctypes.get_errno())}"
            )
        log.info("mounted a BPF file system on %s", BPFFS)
