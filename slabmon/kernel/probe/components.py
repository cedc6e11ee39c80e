# SPDX-License-Identifier: Apache-2.0
"""Built-in drivers, file systems and subsystems, and which one a function of the core kernel is of.

A kernel lists what is built in by name, but not its functions: they are told by their prefixes, as
ext4_alloc_inode() is of ext4.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

# Prefixes of functions that do not begin with the name of their driver.
_PREFIXES = {
    "virtio_blk": "virtblk",
    "virtio_net": "virtnet",
    "virtio_scsi": "virtscsi",
    "virtio_console": "virtcons",
    "virtio_balloon": "virtballoon",
    "virtio_rng": "virtrng",
    "virtio_pci": "vp",
    "ata_piix": "piix",
    "overlay": "ovl",
}
# What drivers are called besides the prefix of their functions.
_ENDING = re.compile(r"_(hcd|pci|core|drv|driver|platform|mod)$")
# Names of what is no driver, or that begin functions of others.
_GENERAL = frozenset(["core", "ctrl", "kernel", "port", "system", "serial", "proc"])
_RUST_LIBRARIES = frozenset(("kernel", "core", "alloc", "pin_init"))


class Components:
    """What is built into the running kernel."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_prefix = dict(_by_prefix(names))

    @classmethod
    def of_host(
        cls,
        sysfs: Path = Path("/sys"),
        proc: Path = Path("/proc"),
        modules: Path | None = None,
    ) -> Components:
        """Return those of this host: drivers and modules in sysfs, file systems, and depmod's list
        of built-in modules. Files that cannot be read are left out."""
        folder = modules or Path("/lib/modules") / platform.release()
        return cls(
            [
                *_children(sysfs / "module", without="initstate"),
                *(name for bus in _children(sysfs / "bus") for name in _drivers(sysfs, bus)),
                *(line.split()[-1] for line in _lines(proc / "filesystems") if line.split()),
                *(
                    os.path.basename(line).partition(".ko")[0]
                    for line in _lines(folder / "modules.builtin")
                ),
            ]
        )

    def of(self, symbol: str) -> str | None:
        """Return the component of a function of the core kernel, None if it is of none known."""
        if "::" in symbol:
            crate = symbol.lstrip("<").partition("::")[0]
            return None if crate in _RUST_LIBRARIES else crate
        plain = symbol.lstrip("_")
        end = plain.rfind("_")
        while end > 0:
            name = self._by_prefix.get(plain[:end])
            if name is not None:
                return name
            end = plain.rfind("_", 0, end)
        return None


def _by_prefix(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield prefixes of functions, and the names they stand for; later ones take precedence."""
    known: Mapping[str, str] = {name.replace("-", "_"): name for name in names}
    for plain, name in known.items():
        yield _ENDING.sub("", plain), name
    for plain, name in known.items():
        yield plain, name
        if plain in _PREFIXES:
            yield _PREFIXES[plain], name


def _children(folder: Path, without: str = "") -> list[str]:
    """Return the names in a folder, except those of folders in which the file `without` is."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [
        n for n in names if n not in _GENERAL and not (without and (folder / n / without).exists())
    ]


def _drivers(sysfs: Path, bus: str) -> list[str]:
    return _children(sysfs / "bus" / bus / "drivers")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
