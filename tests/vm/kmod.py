# SPDX-License-Identifier: Apache-2.0
"""Build the planted module for a kernel, in the distribution that the kernel comes from."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.vm import roots
from tests.vm.host import PROJECT, cache_dir, digest, fresh_dir, log
from tests.vm.trees import KernelTree

SOURCES = PROJECT / "tests" / "kmod"
MODULE = "slabmon_planted.ko"
# Folder -> options of make. Kbuild needs a vmlinux for BTF; headers of 6.12 and later have one.
VARIANTS = {".": ["CONFIG_DEBUG_INFO_BTF_MODULES="], "btf": []}
CROSS = {"arm64": ("ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-")}


def build(tree: KernelTree) -> Path:
    """The directory with the built module, and in `btf` one with its types where they can be made;
    cached by the sources, the kernel and the compiler."""
    tools = roots.base("tools")
    sources = sorted(
        path for path in SOURCES.iterdir() if path.suffix in (".c", ".h", "") and path.is_file()
    )
    key = digest(
        [tree.build.name, tools.name, tree.locked.kernel.compiler]
        + [repr(VARIANTS)]
        + [part for path in sources for part in (path.name, path.read_bytes())]
    )
    final = cache_dir() / "modules" / f"{tree.locked.kernel.name}-{key}"
    if final.exists():
        return final
    log(f"building the planted module for {tree.release}")
    with fresh_dir(final) as target:
        for folder, options in VARIANTS.items():
            built = _made(tree, tools, sources, options)
            if built is not None:
                (target / folder).mkdir(exist_ok=True)
                (target / folder / MODULE).write_bytes(built)
    return final


def _made(
    tree: KernelTree, tools: Path, sources: Sequence[Path], options: Sequence[str]
) -> bytes | None:
    """Return the module as made with these options of make; None if it has no BTF and should."""
    with tempfile.TemporaryDirectory(dir=cache_dir()) as scratch:
        work = Path(scratch)
        inside = work / "upper" / "src"
        inside.mkdir(parents=True)
        for source in sources:
            shutil.copy2(source, inside)
        roots.in_chroot(
            [tree.build, tree.run, tools],
            [
                "make",
                "-C",
                f"/usr/src/linux-headers-{tree.release}",
                "M=/src",
                f"CC={tree.locked.kernel.compiler}",
                *CROSS.get(tree.locked.kernel.architecture, ()),
                *options,
                "modules",
            ],
            what=f"building the planted module for {tree.release}",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            scratch=work,
        )
        built = (inside / MODULE).read_bytes()
    return built if options or b"\0.BTF\0" in built else None
