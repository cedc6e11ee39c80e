# SPDX-License-Identifier: Apache-2.0
"""Unpacked kernels: one tree that a guest sees, one with headers to build modules against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.vm.archive import Archive
from tests.vm.config import Locked, Package
from tests.vm.host import VmError, cache_dir, digest, fresh_dir, log, run


@dataclass(frozen=True)
class KernelTree:
    """A kernel ready to boot, and the packages its modules are built with."""

    locked: Locked
    run: Path
    build: Path

    @property
    def release(self) -> str:
        """What `uname -r` prints."""
        return self.locked.release

    @property
    def modules(self) -> Path:
        """The directory that modprobe reads."""
        return self.run / "usr" / "lib" / "modules" / self.release

    @property
    def vmlinuz(self) -> Path:
        """The image: under boot/ up to 7.0, beside the modules since."""
        classic = self.run / "boot" / f"vmlinuz-{self.release}"
        return classic if classic.exists() else self.modules / "vmlinuz"


def prepare(locked: Locked) -> KernelTree:
    """Download and unpack what is not in the cache yet."""
    base = cache_dir() / "kernels"
    archive = Archive()
    trees = []
    for kind, packages in (("run", locked.run), ("build", locked.build)):
        key = digest(package.sha256 for package in packages)
        tree = base / f"{locked.kernel.name}-{kind}-{key}"
        if not tree.exists():
            _unpack(archive, locked, packages, tree)
        trees.append(tree)
    return KernelTree(locked, *trees)


def debug_info(locked: Locked) -> Path:
    """A tree with the kernel's DWARF where debuggers look for it; VmError where none is pinned."""
    if not locked.debug:
        raise VmError(f"kernels.toml names no package with debug information of {locked.release}")
    key = digest(package.sha256 for package in locked.debug)
    final = cache_dir() / "kernels" / f"{locked.kernel.name}-debug-{key}"
    if not final.exists():
        [deb] = Archive().fetch(locked, locked.debug)
        log(f"unpacking the debug information of {locked.release} (about a minute)")
        with fresh_dir(final) as tree:
            # One file of many; tar stops reading once it has it.
            script = 'dpkg-deb --fsys-tarfile "$0" | tar -x -C "$1" --occurrence=1 "$2"'
            vmlinux = f"./usr/lib/debug/boot/vmlinux-{locked.release}"
            run(["sh", "-ec", script, deb, tree, vmlinux], what=f"unpacking {deb.name}")
        deb.unlink()  # a gigabyte
    return final


def _unpack(archive: Archive, locked: Locked, packages: tuple[Package, ...], final: Path) -> None:
    debs = archive.fetch(locked, packages)
    log(f"unpacking {locked.release} ({final.name})")
    with fresh_dir(final) as tree:
        for deb in debs:
            run(["dpkg-deb", "-x", deb, tree], what=f"unpacking {deb.name}")
        _merge_lib(tree)
        if (tree / "usr" / "lib" / "modules" / locked.release / "kernel").exists():
            # depmod insists on lib/, which must not stay: see _merge_lib.
            (tree / "lib").symlink_to("usr/lib")
            run(["depmod", "-b", tree, locked.release], what="depmod")
            (tree / "lib").unlink()


def _merge_lib(tree: Path) -> None:
    """Move lib/modules under usr/: as an overlay's layer, a real lib/ hides the root's symlink."""
    old = tree / "lib" / "modules"
    if old.exists():
        new = tree / "usr" / "lib" / "modules"
        new.mkdir(parents=True, exist_ok=True)
        for entry in old.iterdir():
            entry.rename(new / entry.name)
        old.rmdir()
        (tree / "lib").rmdir()


def module_files(tree: KernelTree, names: Iterable[str]) -> list[Path]:
    """Files of some modules and of all they depend on, in an order in which they load.

    A name that is missing is built into the kernel, which differs by version.
    """
    depends: dict[str, list[str]] = {}
    by_name: dict[str, str] = {}
    for line in (tree.modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends[path] = needs.split()
        by_name[Path(path).name.partition(".")[0].replace("-", "_")] = path
    order: list[str] = []

    def visit(path: str) -> None:
        for need in depends[path]:
            visit(need)
        if path not in order:
            order.append(path)

    for name in names:
        if name in by_name:
            visit(by_name[name])
    return [tree.modules / path for path in order]
