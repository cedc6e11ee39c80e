# SPDX-License-Identifier: Apache-2.0
"""kernels.toml and its lock: which kernels, which packages, which exact versions."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.vm.host import VmError

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "kernels.toml"
LOCK = HERE / "kernels.lock.toml"
NATIVE = "amd64"  # what this machine runs without emulation


@dataclass(frozen=True)
class Kernel:
    """One entry of kernels.toml."""

    name: str
    suites: tuple[str, ...]
    image: str
    run: tuple[str, ...]
    build: tuple[str, ...]
    debug: tuple[str, ...]
    compiler: str
    architecture: str


@dataclass(frozen=True)
class Root:
    """A root file system to debootstrap."""

    name: str
    suite: str
    packages: tuple[str, ...]
    architecture: str


@dataclass(frozen=True)
class Package:
    """An exact version, as the archive's signed index describes it; NAME:arm64 is apt's way to say
    that it is not this machine's architecture."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Locked:
    """A kernel pinned to one release."""

    kernel: Kernel
    release: str
    run: tuple[Package, ...]
    build: tuple[Package, ...]
    debug: tuple[Package, ...]


def _load(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        return tomllib.load(handle)


def kernels() -> dict[str, Kernel]:
    """Every kernel there is, oldest first."""
    return {
        name: Kernel(
            name=name,
            suites=tuple(entry["suites"]),
            image=entry["image"],
            run=tuple(entry["run"]),
            build=tuple(entry["build"]),
            debug=tuple(entry.get("debug", ())),
            compiler=entry["compiler"],
            architecture=entry.get("architecture", NATIVE),
        )
        for name, entry in _load(CONFIG)["kernels"].items()
    }


def root(name: str) -> Root:
    """The root file system called `name` in kernels.toml."""
    entry = _load(CONFIG)["roots"][name]
    return Root(name, entry["suite"], tuple(entry["packages"]), entry.get("architecture", NATIVE))


def locked(name: str) -> Locked:
    """The pinned versions of a kernel; VmError for a name that is unknown or not yet locked."""
    known = kernels()
    if name not in known:
        raise VmError(f"no kernel {name!r} in {CONFIG.name}; it has: {', '.join(known)}")
    pins = _load(LOCK)["kernels"] if LOCK.exists() else {}
    if name not in pins:
        raise VmError(f"{name} is not in {LOCK.name}: run `python -m tests.vm {name} --relock`")
    pin = pins[name]
    return Locked(
        kernel=known[name],
        release=pin["release"],
        run=tuple(Package(**item) for item in pin["run"]),
        build=tuple(Package(**item) for item in pin["build"]),
        debug=tuple(Package(**item) for item in pin.get("debug", ())),
    )


def write_lock(entries: dict[str, Locked]) -> None:
    """Write the lock in the order of kernels.toml, so that a diff shows only what moved."""
    lines = [
        # REUSE-IgnoreStart
        "# SPDX-License-Identifier: Apache-2.0",
        # REUSE-IgnoreEnd
        "# Written by `python -m tests.vm --relock`: do not edit.",
    ]
    for name in kernels():
        if name not in entries:
            continue
        entry = entries[name]
        lines += ["", f'[kernels."{name}"]', f'release = "{entry.release}"']
        groups = {"run": entry.run, "build": entry.build, "debug": entry.debug}
        for kind, packages in groups.items():
            for package in packages:
                lines += [
                    "",
                    f'[[kernels."{name}".{kind}]]',
                    f'name = "{package.name}"',
                    f'version = "{package.version}"',
                    f'sha256 = "{package.sha256}"',
                ]
    LOCK.write_text("\n".join(lines) + "\n")


def all_locked() -> dict[str, Locked]:
    """Every kernel that the lock knows."""
    pins = _load(LOCK)["kernels"] if LOCK.exists() else {}
    return {name: locked(name) for name in kernels() if name in pins}
