# SPDX-License-Identifier: Apache-2.0
"""/proc/vmallocinfo: who holds memory of vmalloc(), since boot.

One line an area (vmalloc_info_show(), mm/vmalloc.c): `ADDRESSES BYTES CALLER [pages=N] FLAGS
[N0=PAGES ...]`. Only areas that own their pages have `pages=`: those that vmalloc() made, and those
of vmap() with VM_MAP_PUT_PAGES.
"""

from __future__ import annotations

import mmap
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slabmon.base.escape import escape
from slabmon.memory.reading import VmallocCaller

PATH = Path("/proc/vmallocinfo")
MOST_CALLERS = 256
OTHER_CALLERS, UNKNOWN = "[other callers]", "[unknown]"
# Reading a host's many areas holds a lock: the share of time that may go into it.
_DUTY = 0.002
_LINE = re.compile(
    r"^0x\S+\s+(?P<size>\d+) (?P<caller>\S+)(?: \[(?P<module>[^\]]+)\])?(?P<rest> .*)$"
)
_PAGES = re.compile(r" pages=(\d+)")
_NODES = re.compile(r" N(\d+)=(\d+)")
_SYMBOL = re.compile(r"(?P<symbol>[^+]+)\+0x(?P<offset>[0-9a-f]+)/0x[0-9a-f]+")
# Functions that alloc_thread_stack_node() (kernel/fork.c) is inlined into, in whole or in part.
_STACK_CALLERS = frozenset(
    {
        "alloc_thread_stack_node",
        "dup_task_struct",
        "copy_process",
        "kernel_clone",
        "_do_fork",
        "fork_idle",
        "create_io_thread",
        "vhost_task_create",
    }
)


@dataclass
class _Sum:
    areas: int = 0
    pages: int = 0
    node_pages: dict[int, int] = field(default_factory=dict)


def parse(content: str, stack_bytes: int = 0) -> list[VmallocCaller]:
    """Return what each caller holds, largest first. Areas of `stack_bytes` that a fork made are
    kernel stacks. Lines that are not understood, and mappings of memory of others, are left out."""
    sums: dict[tuple[str, int, str | None, bool], _Sum] = {}
    for line in content.splitlines():
        match = _LINE.match(line)
        pages = _PAGES.search(match["rest"]) if match else None
        if match is None or pages is None:
            continue
        symbol, offset = _place(match["caller"])
        module = escape(match["module"].encode()) if match["module"] else None
        stack = _plain(symbol) in _STACK_CALLERS and int(pages[1]) * mmap.PAGESIZE == stack_bytes
        total = sums.setdefault((symbol, offset, module, stack), _Sum())
        total.areas += 1
        total.pages += int(pages[1])
        for node, count in _NODES.findall(match["rest"]):
            total.node_pages[int(node)] = total.node_pages.get(int(node), 0) + int(count)
    rows = (
        VmallocCaller(
            symbol=symbol,
            offset=offset,
            module=module,
            areas=total.areas,
            bytes=total.pages * mmap.PAGESIZE,
            node_bytes={
                node: count * mmap.PAGESIZE for node, count in sorted(total.node_pages.items())
            },
            stacks=stack,
        )
        for (symbol, offset, module, stack), total in sums.items()
    )
    return sorted(rows, key=lambda row: (-row.bytes, row.symbol, row.offset))


def _place(caller: str) -> tuple[str, int]:
    """Return symbol and offset. An address without a symbol is not repeated: its code was freed."""
    match = _SYMBOL.fullmatch(caller)
    if match is None:
        return UNKNOWN, 0
    return escape(match["symbol"].encode()), int(match["offset"], 16)


def _plain(symbol: str) -> str:
    """Return the name without what a compiler adds to copies (`.constprop.0`, `.part.0`)."""
    return symbol.partition(".")[0]


def bounded(rows: Sequence[VmallocCaller], most: int = MOST_CALLERS) -> tuple[VmallocCaller, ...]:
    """Return the largest callers, and one row for all others."""
    if len(rows) <= most:
        return tuple(rows)
    rest = rows[most - 1 :]
    nodes = {node for row in rest for node in row.node_bytes}
    other = VmallocCaller(
        symbol=OTHER_CALLERS,
        offset=0,
        areas=sum(row.areas for row in rest),
        bytes=sum(row.bytes for row in rest),
        node_bytes={
            node: sum(row.node_bytes.get(node, 0) for row in rest) for node in sorted(nodes)
        },
    )
    return (*rows[: most - 1], other)


class VmallocReader:
    """Reads /proc/vmallocinfo, and repeats the last answer while another one would cost too much.
    `problem` says why it cannot be read ("": it can)."""

    def __init__(
        self,
        stack_bytes: int,
        path: Path = PATH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stack_bytes = stack_bytes
        self._path = path
        self._clock = clock
        self._due = float("-inf")
        self._rows: tuple[VmallocCaller, ...] | None = None
        self.problem = ""

    def read(self, *, fresh: bool = False) -> tuple[VmallocCaller, ...] | None:
        """Return the callers, or None if they cannot be read; `fresh`: whatever it costs."""
        start = self._clock()
        if start < self._due and not fresh:
            return self._rows
        try:
            content = self._path.read_text("utf-8", "replace")
        except OSError as error:
            self._rows, self.problem = None, f"{self._path}: {error.strerror}"
        else:
            self._rows, self.problem = bounded(parse(content, self._stack_bytes)), ""
        self._due = start + (self._clock() - start) / _DUTY
        return self._rows
