# SPDX-License-Identifier: Apache-2.0
"""Modes: what is attached while a workload runs: nothing, empty programs, or slabmon."""

from __future__ import annotations

import os
import struct
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Protocol

from slabmon.kernel.bpf import syscall
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.programs import ALLOCATION_EVENTS
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker

NOTHING, FLOOR = "nothing", "empty programs"
# The cache of kmem_cache itself (mm/slub.c): in every kernel, and used only when a cache is made.
_IDLE_CACHE = "kmem_cache"
# r0 = 0; exit
_EMPTY = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
_EVENTS = ("kmalloc", "kfree", "kmem_cache_alloc", "kmem_cache_free")


class Mode(Protocol):
    """Something that can be attached for a block."""

    name: str
    about: str

    def on(self) -> None:
        """Attach it."""

    def off(self) -> None:
        """Detach it; its programs stay loaded."""


@dataclass
class Nothing:
    """The baseline."""

    name: str = NOTHING
    about: str = "no program attached"

    def on(self) -> None:
        """Nothing to do."""

    def off(self) -> None:
        """Nothing to do."""


class EmptyPrograms:
    """The floor: the kernel's own cost of calling programs, which do nothing."""

    name = FLOOR
    about = "an empty raw tracepoint program on kmalloc, kfree and their kmem_cache counterparts"

    def __init__(self) -> None:
        self._program = syscall.load("slabmon_floor", _EMPTY)
        self._links: list[int] = []

    def on(self) -> None:
        """Attach the empty programs."""
        self._links = [syscall.attach(self._program, event) for event in _EVENTS]

    def off(self) -> None:
        """Detach the empty programs."""
        for link in self._links:
            os.close(link)
        self._links = []

    def close(self) -> None:
        """Unload the empty program."""
        self.off()
        os.close(self._program)


class Slabmon:
    """A local tracking session, whose allocation programs are attached and detached."""

    def __init__(self, name: str, about: str, tracker: Tracker) -> None:
        self.name, self.about, self.tracker = name, about, tracker
        self._events = tracker.plan.attach.keys() & ALLOCATION_EVENTS
        self.off()

    def on(self) -> None:
        """Attach the allocation programs."""
        self.tracker.programs.attach(self.tracker.plan, self._events, required=True)

    def off(self) -> None:
        """Detach the allocation programs."""
        self.tracker.programs.detach(self._events)


SLABMON = {
    "counters": ("counts only: a sample every GiB", Settings(sample_bytes=1 << 30)),
    "default": ("counts, and a sample every 128 KiB with its stack", Settings()),
    "exact, filtered": (
        "every object of one cache, from which nothing is allocated meanwhile",
        Settings(exact=Filter(cache=_IDLE_CACHE)),
    ),
    "exact": (
        "every object, without stacks",
        Settings(exact=Filter(min_size=1), stack_frames=0),
    ),
    "exact, stacks": ("every object with its stack", Settings(exact=Filter(min_size=1))),
}


class Modes(AbstractContextManager["Modes"]):
    """All modes, loaded and detached."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Modes:
        self.slabmon = {}
        # First, because they explain why this host or user cannot load programs at all.
        for name, (about, settings) in SLABMON.items():
            tracker = self._stack.enter_context(open_tracker(settings))
            self.slabmon[name] = Slabmon(name, about, tracker)
        floor = EmptyPrograms()
        self._stack.callback(floor.close)
        self.all: tuple[Mode, ...] = (Nothing(), floor, *self.slabmon.values())
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
