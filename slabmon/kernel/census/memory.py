# SPDX-License-Identifier: Apache-2.0
"""Kernel memory, read in bounded slices by the programs of bpf/census.bpf.c."""

from __future__ import annotations

import mmap
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slabmon.base.arrays import I64, U8, U64
from slabmon.base.errors import UsageError
from slabmon.kernel.bpf import maps, syscall
from slabmon.kernel.census.settings import CPU_OPTION
from slabmon.kernel.loading.loader import Compiler, Programs

# A run copies at most a window, in about 0.1 ms, or from GATHER_MAX addresses, in about as long.
WINDOW_BYTES, GATHER_MAX, GATHER_BYTES = 1 << 20, 4096, 4096
PAGE_BYTES = mmap.PAGESIZE
_PAGEMAP, _PAGEMAP_PFN = Path("/proc/self/pagemap"), (1 << 55) - 1  # admin-guide/mm/pagemap.rst
# Where kernel addresses begin: with 48 bits on x86-64, on arm64, and with more on both.
_KERNEL_STARTS = (0xFFFF800000000000, 0xFFFF000000000000, 0xFF00000000000000)
_REQUEST = {
    "source": "census.bpf.c",
    "defines": {
        "WINDOW_BYTES": WINDOW_BYTES,
        "GATHER_MAX": GATHER_MAX,
        "GATHER_BYTES": GATHER_BYTES,
    },
    "functions": dict.fromkeys(("read_block", "gather", "locate"), ("", 0)),
    "maps": ("window", "cpu_words"),
    "kfuncs": (),
}


class BudgetSpent(UsageError):
    """The CPU time that a census may use is used up."""


@dataclass(frozen=True)
class Budget:
    """CPU time a census may use, in seconds."""

    cpu_seconds: float

    def check(self) -> None:
        """Raise BudgetSpent if this process has used it up."""
        if time.process_time() > self.cpu_seconds:
            raise BudgetSpent(
                f"census: the budget of {self.cpu_seconds:g} s of CPU time is used up; allow more "
                f"with {CPU_OPTION}"
            )


class Memory(ABC):
    """Memory that is read by address."""

    @abstractmethod
    def block(self, address: int, size: int) -> U8 | None:
        """Return `size` bytes, WINDOW_BYTES at most, until the next call; None if they cannot be
        read."""

    @abstractmethod
    def gather(self, addresses: U64, size: int) -> U8:
        """Return `size` bytes at each address, (addresses, size); 0 where they cannot be read."""

    def view(self, addresses: U64, size: int) -> U8:
        """Return what gather() does, of a window full at most, until the next call."""
        return self.gather(addresses, size)

    def own_pages(self) -> I64:
        """Return the page frames in which the kernel holds copies of what was read here."""
        return np.zeros(0, np.int64)

    def own_task(self) -> int:
        """Return the address of the task that reads, 0 for none."""
        return 0

    def words(self, addresses: U64) -> U64:
        """Return the 64-bit word at each address; 0 where it cannot be read."""
        return self.gather(addresses, 8).view(np.uint64)[:, 0]

    def word(self, address: int) -> int:
        """Return one 64-bit word."""
        return int(self.words(np.array([address], np.uint64))[0])


class KernelMemory(Memory):
    """The running kernel's memory."""

    def __init__(self, programs: Programs, budget: Budget) -> None:
        self._run = programs.programs
        self._budget = budget
        self.cpu_words_fd = programs.maps["cpu_words"]
        size = GATHER_MAX * 8 + WINDOW_BYTES
        window = maps.map_array(programs.maps["window"], np.dtype("u1"), size, writable=True)
        self._addresses = window[: GATHER_MAX * 8].view(np.uint64)
        self._data = window[GATHER_MAX * 8 :]
        self._lowest = np.uint64(lowest_address(self.locate()[0]))

    def block(self, address: int, size: int) -> U8 | None:
        """Return `size` bytes at an address, or None if they are not mapped."""
        self._budget.check()
        if address < self._lowest:
            return None
        failed = syscall.run(self._run["read_block"], address, size)
        return None if failed else self._data[:size]

    def gather(self, addresses: U64, size: int) -> U8:
        """Return `size` bytes at each address, one row each."""
        result = np.empty((len(addresses), size), np.uint8)
        done = 0
        while done < len(addresses):
            part = addresses[done : done + min(GATHER_MAX, WINDOW_BYTES // size)]
            result[done : done + len(part)] = self.view(part, size)
            done += len(part)
        return result

    def view(self, addresses: U64, size: int) -> U8:
        """Return what gather() does, of a window full at most, where the programs write it."""
        self._budget.check()
        count = len(addresses)
        # Elsewhere nothing can be read, and 5.10 warns of addresses that no page table can map, as
        # words have that were read from what has changed meanwhile.
        np.multiply(addresses, addresses >= self._lowest, out=self._addresses[:count])
        syscall.run(self._run["gather"], count, size)
        return self._data[: count * size].reshape(count, size)

    def own_pages(self) -> I64:
        """Return the page frames of the window."""
        first = int(self._addresses.ctypes.data) // PAGE_BYTES
        end = int(self._data.ctypes.data + self._data.nbytes - 1) // PAGE_BYTES + 1
        with _PAGEMAP.open("rb") as pagemap:
            pagemap.seek(first * 8)
            entries = np.frombuffer(pagemap.read((end - first) * 8), np.uint64)
        return (entries & np.uint64(_PAGEMAP_PFN)).astype(np.int64)

    def own_task(self) -> int:
        """Return the address of the calling thread's task."""
        return self.locate()[0]

    def locate(self, cpu: int | None = None) -> tuple[int, int]:
        """Return the address of a CPU's current task, and of its copy of the map `cpu_words`."""
        syscall.run(self._run["locate"], cpu=cpu)
        return int(self._addresses[0]), int(self._addresses[1])


def lowest_address(task: int) -> int:
    """Return where kernel addresses begin: the highest place that is below a task_struct's."""
    return next(start for start in _KERNEL_STARTS if start <= task)


def start_compiler() -> Compiler:
    """Start building the programs, in another process."""
    compiler = Compiler()
    compiler.request(_REQUEST)
    return compiler
