# SPDX-License-Identifier: Apache-2.0
"""Where a container, a sandbox or a limit takes something away: the rest is right, with the reason
beside it, or there is one error that says what to do."""

from __future__ import annotations

import errno
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.kernel import left_behind, ours

pytestmark = pytest.mark.live

SLABMON = (sys.executable, "-m", "slabmon")
COMMANDS = {
    "check": ("check",),
    "snapshot": ("snapshot", "--seconds", "0.1"),
    "top": ("top", "-b", "-n1"),
    "census": ("census",),
    "serve": ("serve", "--web.listen-address", "127.0.0.1:0", "--web.socket-path", ""),
}
_BPF, _SOCKETPAIR = {"x86_64": (321, 53), "aarch64": (280, 199)}[platform.machine()]
# A filter that answers one system call with an error (seccomp(2)), then a command.
_REFUSE = """
import ctypes, os, struct, sys
number, error = int(sys.argv[1]), int(sys.argv[2])
code = ((0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50000 | error), (6, 0, 0, 0x7FFF0000))
filter = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *each) for each in code))
program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", 4, ctypes.addressof(filter)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
os.execvp(sys.argv[3], sys.argv[3:])
"""


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    before = ours()
    yield
    assert not left_behind(before)


def run(prefix: tuple[str, ...], command: str) -> subprocess.CompletedProcess[str]:
    arguments = [*prefix, *SLABMON, *COMMANDS[command]]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120)


def container(setup: str) -> tuple[str, ...]:
    """A prefix: namespaces of mounts, cgroups, processes and network, prepared by a script."""
    script = f'ip link set lo up; mount --make-rprivate /; {setup}; exec "$@"'
    namespaces = ("unshare", "-m", "-C", "-n", "--pid", "--fork", "--mount-proc")
    return (*namespaces, "sh", "-ec", script, "sh")


def refusing(call: int, error: int) -> tuple[str, ...]:
    return (sys.executable, "-c", _REFUSE, str(call), str(error))


def features(prefix: tuple[str, ...]) -> dict[str, Any]:
    arguments = [*prefix, *SLABMON, "check", "--format", "json"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["features"]
    return found


@pytest.mark.parametrize(
    ("setup", "feature", "state", "reason"),
    [
        ("mount -t tmpfs none /sys/kernel/tracing", "kmalloc", "on", ""),
        ("mount -t tmpfs -o ro none /sys/fs/bpf", "kmalloc", "on", ""),
        ("mount -o remount,ro,bind /", "kmalloc", "on", ""),
        ("mount --bind /dev/null /proc/slabinfo", "slabinfo", "off", "container masks"),
        ("mount -t tmpfs none /sys/kernel/slab", "slabinfo", "degraded", "/sys/kernel/slab"),
        ("mount --bind /dev/null /proc/kallsyms", "symbols", "off", "not masked"),
        ("umount -l -R /sys/fs/cgroup", "cgroups", "degraded", "by number"),
        ("mount --bind /dev/null /proc/iomem", "census", "off", "/proc/iomem"),
    ],
    ids=lambda text: text[-24:],
)
def test_what_a_container_hides_is_a_feature_with_a_reason(
    setup: str, feature: str, state: str, reason: str
) -> None:
    found = features(container(setup))
    assert found["kmalloc"]["state"] == "on"
    assert found[feature]["state"] == state
    assert reason in found[feature]["reason"]


CONFINED = {
    "no sysfs": (container("mount -t tmpfs none /sys"), 4, "mount the host's /sys"),
    "no CPUs": (container("mount -t tmpfs none /sys/devices"), 4, "/sys/devices/system/cpu"),
    "no procfs": (container("umount -l /proc; umount -l /proc"), 4, "mount the host's /proc"),
    "bpf() refused": (refusing(_BPF, errno.EPERM), 3, "CAP_BPF"),
    "no bpf()": (refusing(_BPF, errno.ENOSYS), 4, "seccomp"),
    "another call refused": (refusing(_SOCKETPAIR, errno.EPERM), 3, "seccomp"),
    "no capability": (("setpriv", "--bounding-set", "-all", "--inh-caps", "-all"), 3, "CAP_"),
    "few descriptors": (("prlimit", "--nofile=20:20"), 4, "ulimit"),
}


@pytest.mark.parametrize(
    ("how", "command"),
    [
        *((how, "snapshot") for how in CONFINED),
        *(("bpf() refused", command) for command in COMMANDS if command != "snapshot"),
        *(("no bpf()", command) for command in ("census", "serve")),
        *(("no CPUs", command) for command in ("census", "serve")),
    ],
)
def test_where_slabmon_cannot_work_one_error_says_why(how: str, command: str) -> None:
    prefix, code, words = CONFINED[how]
    done = run(prefix, command)
    errors = [line for line in done.stderr.splitlines() if line.startswith("slabmon: error: ")]
    assert done.returncode == code, done.stderr
    assert len(errors) == 1, done.stderr
    assert words in errors[0]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.fixture
def memory_cgroup() -> Iterator[Path]:
    """A memory cgroup of this test's own, of either version."""
    v1 = Path("/sys/fs/cgroup/memory")
    root = v1 if v1.is_dir() else Path("/sys/fs/cgroup")
    if not v1.is_dir() and "memory" not in (root / "cgroup.subtree_control").read_text():
        pytest.skip("no memory controller for cgroups at the root")
    group = root / "slabmon-test-confined"
    group.mkdir()
    yield group
    group.rmdir()


@pytest.mark.parametrize("command", COMMANDS)
def test_without_memory_for_its_children_the_error_says_so(
    memory_cgroup: Path, command: str
) -> None:
    limits = ("memory.limit_in_bytes", "memory.max")
    limit = next(memory_cgroup / name for name in limits if (memory_cgroup / name).exists())
    limit.write_text("100M")
    enter = ("sh", "-ec", f'echo $$ > {memory_cgroup}/cgroup.procs; exec "$@"', "sh")
    done = run(enter, command)
    assert done.returncode == 4, done.stderr
    assert "memory" in done.stderr
    assert "MemoryMax=" in done.stderr
    assert "Traceback" not in done.stderr
