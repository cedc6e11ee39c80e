# SPDX-License-Identifier: Apache-2.0
"""Objects that a process can leave behind in the kernel, as the kernel lists them."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path

from slabmon.kernel.bpf.syscall import bpf

_NEXT_ID = {"programs": 11, "maps": 12, "links": 31}  # enum bpf_cmd: BPF_*_GET_NEXT_ID
_LISTS = ("/sys/kernel/tracing/dynamic_events", "/sys/kernel/debug/kprobes/list")
_SETTLE_SECONDS = 30


class _GetId(ctypes.Structure):
    """Of union bpf_attr, for these commands."""

    _fields_ = tuple((name, ctypes.c_uint32) for name in ("start_id", "next_id", "open_flags"))


def ids(kind: str) -> frozenset[int]:
    """Identifiers of all BPF programs, maps or links."""
    found: set[int] = set()
    number = 0
    while True:
        attributes = _GetId(start_id=number)
        try:
            bpf(_NEXT_ID[kind], attributes)
        except FileNotFoundError:
            return frozenset(found)
        number = attributes.next_id
        found.add(number)


@dataclass(frozen=True)
class Footprint:
    """Return all objects that must be gone once slabmon has ended."""

    bpf: dict[str, frozenset[int]]
    pinned: frozenset[str]
    mounts: str
    probes: tuple[str, ...]

    @classmethod
    def now(cls) -> Footprint:
        return cls(
            {kind: ids(kind) for kind in _NEXT_ID},
            frozenset(str(path) for path in Path("/sys/fs/bpf").rglob("*")),
            Path("/proc/self/mounts").read_text(),
            tuple(Path(name).read_text() for name in _LISTS if Path(name).exists()),
        )

    def beyond(self, before: Footprint) -> dict[str, object]:
        """Return the objects that are new since `before`.

        Others may have gone in the meantime: the kernel was still freeing objects of the previous
        test. Identifiers are not used again.
        """
        new: dict[str, object] = {kind: self.bpf[kind] - before.bpf[kind] for kind in self.bpf}
        new["pinned"] = self.pinned - before.pinned
        for name in ("mounts", "probes"):
            if getattr(self, name) != getattr(before, name):
                new[name] = getattr(self, name)
        return {name: objects for name, objects in new.items() if objects}


def assert_back_to(before: Footprint) -> None:
    """The kernel frees programs and maps a moment after their last user has gone."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while (more := Footprint.now().beyond(before)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert more == {}
