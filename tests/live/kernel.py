# SPDX-License-Identifier: Apache-2.0
"""What the kernel itself says: loaded BPF programs, and event counts from ftrace."""

from __future__ import annotations

import ctypes
import os
import re
import struct
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

_libc = ctypes.CDLL(None, use_errno=True)
_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
_PROG_GET_NEXT_ID, _PROG_GET_FD_BY_ID, _OBJ_GET_INFO = 11, 13, 15
TRACEFS = Path("/sys/kernel/tracing")


def _bpf(command: int, attributes: bytearray) -> int:
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    return int(_libc.syscall(_BPF, command, buffer, len(attributes)))


_RELEASE_SECONDS = 10.0


def ours() -> dict[int, str]:
    """Names of slabmon's loaded programs by number."""
    return {
        number: name
        for number, name in programs().items()
        if name.startswith(("on_", "walk_devices"))
    }


def left_behind(before: Collection[int], kept: Callable[[], dict[int, str]] = ours) -> set[str]:
    """Names of programs that stay and were not there before: a daemon may run on this host, and
    tests in other workers. The kernel lets go of a closed link's program after an RCU grace period
    (bpf_link_free(), 6.13 and later), which a busy machine makes longer."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    while True:
        known = {*before, *_held_by_other_workers()}
        left = {name for number, name in kept().items() if number not in known}
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.01)


def _held_by_other_workers() -> set[int]:
    """Numbers of the programs to which other workers of this test run, or processes that they
    started, have a descriptor, of the program itself or of its link."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return set()
    mine = {psutil.Process(), *psutil.Process().children(recursive=True)}
    held: set[int] = set()
    for process in psutil.Process(os.getppid()).children(recursive=True):
        if process not in mine:
            for path in Path(f"/proc/{process.pid}/fdinfo").glob("*"):
                with suppress(OSError):  # closed or ended meanwhile
                    held.update(map(int, re.findall(r"^prog_id:\s*(\d+)", path.read_text(), re.M)))
    return held


def programs() -> dict[int, str]:
    """Names of all BPF programs loaded in the kernel by number."""
    names: dict[int, str] = {}
    number = 0
    while True:
        attributes = bytearray(struct.pack("<III", number, 0, 0))
        if _bpf(_PROG_GET_NEXT_ID, attributes) < 0:
            return names
        number = struct.unpack_from("<I", attributes, 4)[0]
        descriptor = _bpf(_PROG_GET_FD_BY_ID, bytearray(struct.pack("<III", number, 0, 0)))
        if descriptor < 0:
            continue  # unloaded meanwhile
        info = ctypes.create_string_buffer(256)
        _bpf(_OBJ_GET_INFO, bytearray(struct.pack("<IIQ", descriptor, 256, ctypes.addressof(info))))
        os.close(descriptor)
        names[number] = info.raw[64:80].split(b"\0")[0].decode()


@contextmanager
def tracefs() -> Iterator[Path]:
    """tracefs, mounted for the length of the block where it is not."""
    if (TRACEFS / "instances").is_dir():
        yield TRACEFS
        return
    subprocess.run(["mount", "-t", "tracefs", "nodev", TRACEFS], check=True)
    try:
        yield TRACEFS
    finally:
        subprocess.run(["umount", TRACEFS], check=True)


class EventCounter:
    """Counts one event in a trace instance of its own: kept, overwritten and dropped ones. With a
    `filter`, only events that match it."""

    def __init__(self, root: Path, event: str, filter: str = "") -> None:
        self._dir = root / "instances" / f"slabmon-test-{event}-{os.getpid()}"
        self._dir.mkdir()
        self._switch = self._dir / "events/kmem" / event / "enable"
        if filter:
            self._switch.with_name("filter").write_text(filter)

    def start(self) -> None:
        self._switch.write_text("1")

    def stop(self) -> None:
        self._switch.write_text("0")

    def count(self) -> tuple[int, int]:
        """Events counted, and events ftrace says it dropped."""
        seen = dropped = 0
        for stats in self._dir.glob("per_cpu/cpu*/stats"):
            values = dict(line.split(":", 1) for line in stats.read_text().splitlines())
            seen += int(values["entries"]) + int(values["overrun"])
            dropped += int(values["dropped events"])
        return seen, dropped

    def remove(self) -> None:
        self.stop()
        self._dir.rmdir()


@contextmanager
def event_counters(*events: str, filter: str = "") -> Iterator[dict[str, EventCounter]]:
    """Counters of the events that match a filter, not yet started."""
    with ExitStack() as stack:
        root = stack.enter_context(tracefs())
        counters = {}
        for event in events:
            counters[event] = EventCounter(root, event, filter)
            stack.callback(counters[event].remove)
        yield counters
