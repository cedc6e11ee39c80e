# SPDX-License-Identifier: Apache-2.0
"""A root file system for another architecture, without running anything that is in it.

Packages are unpacked but not configured, and Python packages come as wheels: enough for Python,
bcc and slabmon. Nothing has to be registered with this machine's kernel for it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.vm.host import NETWORK_TRIES, PROJECT, run

# Newest first: pip takes the wheels it is offered.
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
PACKAGES = ("-r", "requirements.txt", "-c", "requirements-dev.txt", "pytest", "pytest-timeout")
# A virtual environment as far as slabmon and the tests use it.
LAUNCHER = """#!/bin/sh
PYTHONPATH=/opt/slabmon:/opt/slabmon/.venv/lib exec /usr/bin/python3 {arguments}"$@"
"""


def unpack(tree: Path) -> None:
    """Completes the first stage of a debootstrap with the contents of all its packages."""
    for deb in sorted((tree / "var" / "cache" / "apt" / "archives").glob("*.deb")):
        # Unlike dpkg-deb -x this spares the links that make /bin and /lib parts of /usr.
        script = 'dpkg-deb --fsys-tarfile "$0" | tar -x -C "$1" --keep-directory-symlink'
        run(["sh", "-ec", script, deb, tree], what=f"unpacking {deb.name}")
    for name in ("passwd", "group"):  # as base-passwd makes them
        shutil.copy(tree / "usr/share/base-passwd" / f"{name}.master", tree / "etc" / name)
    proc = tree / "proc"
    if proc.is_symlink():  # debootstrap's, for a second stage that does not come
        proc.unlink()
        proc.mkdir()


def install(tree: Path, home: Path) -> None:
    """slabmon's environment at `home`/.venv, from wheels of the root's architecture and Python."""
    python = os.readlink(tree / "usr" / "bin" / "python3")
    library = home / ".venv" / "lib"
    library.mkdir(parents=True)
    run(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--target", library),
            *("--only-binary=:all:", f"--python-version={python.removeprefix('python')}"),
            *(f"--platform={platform}" for platform in PLATFORMS),
            *PACKAGES,
        ],
        what="fetching wheels",
        cwd=PROJECT,
        tries=NETWORK_TRIES,
    )
    commands = home / ".venv" / "bin"
    commands.mkdir()
    for name, arguments in (("python", ""), ("slabmon", "-m slabmon ")):
        launcher = commands / name
        launcher.write_text(LAUNCHER.format(arguments=arguments))
        launcher.chmod(0o755)
