# SPDX-License-Identifier: Apache-2.0
"""What the test bed uses of its host: commands, packages, a cache, a lock."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

PROJECT = Path(__file__).resolve().parents[2]

# Command that must exist -> Debian package that has it.
NEEDS = {
    "debootstrap": "debootstrap",
    "depmod": "kmod",
    "mkfs.ext4": "e2fsprogs",
    "unshare": "util-linux",
    "git": "git",
}
NETWORK_TRIES = 3
RETRY_SECONDS = 5
LOCK_POLL_SECONDS = 0.5


class VmError(Exception):
    """A failure of the test bed itself; the message says what to do about it."""


def log(message: str) -> None:
    """One progress line: the first run takes minutes and must not look hung."""
    print(f"vm: {message}", file=sys.stderr, flush=True)


def run(
    command: Sequence[str | Path],
    *,
    what: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 1800,
    tries: int = 1,
) -> str:
    """Run a command and return its output; on failure say what it was for and how it ended.

    `tries`: how often, for what depends on a network.
    """
    for remaining in reversed(range(1, tries)):
        try:
            return run(command, what=what, env=env, cwd=cwd, timeout=timeout)
        except VmError as error:
            log(f"{error}\nvm: trying again, {remaining} more times at most")
            time.sleep(RETRY_SECONDS)
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise VmError(f"{what}: no such command: {command[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise VmError(f"{what}: no end after {timeout:.0f} s") from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise VmError(f"{what}: exit code {done.returncode}\n{tail}")
    return done.stdout


def cache_dir() -> Path:
    """Downloads, roots and built modules; outside the tree so that `git clean` keeps them."""
    chosen = os.environ.get("SLABMON_VM_CACHE")
    if chosen:
        path = Path(chosen)
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        path = Path(base) / "slabmon-vm"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


@contextlib.contextmanager
def lock(name: str, waiting: str, places: int = 1) -> Iterator[None]:
    """A lock that as many as `places` can hold at once, over all processes."""
    with contextlib.ExitStack() as stack:
        names = [name, *(f"{name}-{place}" for place in range(1, places))]
        handles = [stack.enter_context((cache_dir() / each).open("w")) for each in names]
        reported = False
        while not any(_taken(handle) for handle in handles):
            if not reported:
                log(waiting)
                reported = True
            time.sleep(LOCK_POLL_SECONDS)
        yield


def _taken(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def require_host() -> None:
    """Be root, and have the commands of NEEDS, installing their packages when missing."""
    if os.geteuid() != 0:
        raise VmError("preparing a guest needs root (debootstrap, chroot): run it with sudo")
    missing = sorted({pkg for command, pkg in NEEDS.items() if shutil.which(command) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise VmError(f"not a Debian host; install the equivalents of: {' '.join(missing)}")
    log(f"installing {' '.join(missing)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], what="apt-get update", env=env, tries=NETWORK_TRIES)
    run(
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing],
        what="installing the test bed's packages",
        env=env,
        tries=NETWORK_TRIES,
    )


def digest(parts: Iterable[str | bytes]) -> str:
    """A short name for a set of inputs, to key what is cached."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big") + data)
    return state.hexdigest()[:16]


@contextlib.contextmanager
def fresh_dir(final: Path) -> Iterator[Path]:
    """Fill a directory under a temporary name; it takes its real one only when complete."""
    partial = final.with_name(final.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
