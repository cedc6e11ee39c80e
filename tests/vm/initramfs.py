# SPDX-License-Identifier: Apache-2.0
"""A first root of one busybox, a few modules and a script that assembles the real root."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

from tests.vm.host import cache_dir, digest, run
from tests.vm.trees import KernelTree, module_files

MODULES = (
    *("virtio_pci", "virtio_mmio", "9pnet_virtio", "9p", "overlay"),
    *("virtio_blk", "crc32c_generic", "ext4"),
)
INIT = Path(__file__).resolve().parent / "initramfs.sh"


def build(tree: KernelTree, busybox: Path) -> Path:
    """The initramfs of a kernel, cached; uncompressed, which boots faster under emulation."""
    key = digest([tree.run.name, INIT.read_bytes(), busybox.read_bytes(), *MODULES])
    final = cache_dir() / "kernels" / f"initramfs-{tree.locked.kernel.name}-{key}"
    if final.exists():
        return final
    archive = CpioWriter()
    for directory in ("bin", "modules", "proc", "sys", "dev", "layers", "upper", "new"):
        archive.add(directory, b"", 0o040755)
    archive.add("bin/busybox", busybox.read_bytes(), 0o100755)
    archive.add("init", INIT.read_bytes(), 0o100755)
    for index, module in enumerate(module_files(tree, MODULES)):
        # The number keeps the load order: the script loads them as the shell sorts them.
        name = module.name.partition(".")[0]
        archive.add(f"modules/{index:02}-{name}.ko", _decompressed(module), 0o100644)
    partial = final.with_name(final.name + ".partial")
    partial.write_bytes(archive.finish())
    partial.rename(final)
    return final


def _decompressed(module: Path) -> bytes:
    if module.suffix == ".xz":
        return lzma.decompress(module.read_bytes())
    if module.suffix == ".gz":
        return gzip.decompress(module.read_bytes())
    if module.suffix == ".zst":
        plain = cache_dir() / "module.ko"
        run(["zstd", "-q", "-d", "-f", module, "-o", plain], what=f"decompressing {module.name}")
        return plain.read_bytes()
    return module.read_bytes()


class CpioWriter:
    """The "newc" format, which is all that the kernel reads: 110 bytes of hex, name, data."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0

    def add(self, name: str, data: bytes, mode: int) -> None:
        """Append one file or directory owned by root."""
        self._inode += 1
        raw = name.encode() + b"\0"
        fields = (
            *(
                self._inode,
                mode,
                0,
                0,
                1,
                0,
                len(data),
            ),  # inode, mode, uid, gid, links, mtime, size
            *(0, 0, 0, 0, len(raw), 0),  # device and rdev numbers, name length, check
        )
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._parts += [_padded(header + raw), _padded(data)]

    def finish(self) -> bytes:
        """The whole archive."""
        self.add("TRAILER!!!", b"", 0)
        return b"".join(self._parts)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
