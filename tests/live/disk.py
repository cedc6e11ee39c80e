# SPDX-License-Identifier: Apache-2.0
"""A small file system that only one process and its children see, to be filled and broken."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory


class Disk:
    """A tmpfs at `path`, mounted in a mount namespace of its own by `prefix`."""

    def __init__(self, path: Path, kilobytes: int, inodes: int) -> None:
        self.path = path
        options = f"size={kilobytes}k,nr_inodes={inodes},mode=755"
        mount = f'mount -t tmpfs -o {options} slabmon-test {path} && exec "$@"'
        self.prefix = ("unshare", "--mount", "sh", "-c", mount, "sh")

    def seen_by(self, pid: int) -> Path:
        """Return the disk's path from outside, through the process that has it."""
        return Path(f"/proc/{pid}/root{self.path}")

    @staticmethod
    def unmount(pid: int, path: Path) -> None:
        """Detach the disk in the namespace of a process, as `umount -l` does: what is open stays
        open."""
        subprocess.run(
            ["nsenter", f"--target={pid}", "--mount", "umount", "-l", path], check=True, timeout=30
        )

    @staticmethod
    def remount(pid: int, path: Path, options: str) -> None:
        """Change the mount options in the namespace of a process."""
        subprocess.run(
            ["nsenter", f"--target={pid}", "--mount", "mount", "-o", f"remount,{options}", path],
            check=True,
            timeout=30,
        )


@contextmanager
def small_disk(kilobytes: int, inodes: int = 64) -> Iterator[Disk]:
    """Yield a Disk. Its directory can be entered by all users, unlike pytest's."""
    with TemporaryDirectory(prefix="slabmon-disk-") as folder:
        Path(folder).chmod(0o755)
        yield Disk(Path(folder), kilobytes, inodes)


def fill(folder: Path) -> None:
    """Write until the disk is full, into the file `filler`."""
    with (folder / "filler").open("wb", buffering=0) as file, _until_full():
        while True:
            file.write(bytes(1 << 12))


def use_up_inodes(folder: Path) -> None:
    """Make files until there can be no more, in the directory `inodes`."""
    (folder / "inodes").mkdir()
    with _until_full():
        for number in count():
            (folder / "inodes" / str(number)).touch()


@contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
