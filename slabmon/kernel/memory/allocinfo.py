# SPDX-License-Identifier: Apache-2.0
"""/proc/allocinfo: what each line of the kernel's source has allocated since boot and not freed.

Memory allocation profiling (6.10 and later, CONFIG_MEM_ALLOC_PROFILING, sysctl vm.mem_profiling):
exact, in slabs and in pages, bulk and RCU frees included. As text (fs/proc documentation,
Documentation/filesystems/proc.rst), and from 7.3 on also by ioctl, which leaves out in the kernel
what holds nothing (include/uapi/linux/alloc_tag.h).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from slabmon.base.escape import escape
from slabmon.memory.reading import AllocTag
from slabmon.model import FeatureState, State

PATH = Path("/proc/allocinfo")
SWITCH = Path("/proc/sys/vm/mem_profiling")
ALLOCINFO = "allocinfo"  # the feature
# Lines that are kept: those that hold most. All others are one row, OTHER_LINES.
MOST_LINES, OTHER_LINES = 512, "others"
_DUTY = 0.002  # share of the time that reading may take
_ATTEMPTS = 3  # while modules come and go
# bytes, calls, file:line, [module], func:function, markers; a count can be below 0 for a moment.
_LINE = re.compile(rb"^ *(-?\d+) +(\d+) (\S+):(\d+)(?: \[(\S+)\])? func:(\S+)(.*)$", re.MULTILINE)
_INACCURATE = b"accurate:no"  # from version 2.0 on

Ioctl = Callable[[int, int, ctypes.Structure], None]


class _Tag(ctypes.Structure):
    _fields_ = (
        ("modname", ctypes.c_char * 64),
        ("function", ctypes.c_char * 64),
        ("filename", ctypes.c_char * 64),
        ("lineno", ctypes.c_uint64),
    )


class TagData(ctypes.Structure):
    """struct allocinfo_tag_data. Of names that are too long the end is kept."""

    _fields_ = (
        ("tag", _Tag),
        ("bytes", ctypes.c_uint64),
        ("calls", ctypes.c_uint64),
        ("accurate", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 7),
    )


class _Filter(ctypes.Structure):
    _fields_ = (
        ("mask", ctypes.c_uint64),
        ("fields", _Tag),
        ("min_size", ctypes.c_uint64),
        ("max_size", ctypes.c_uint64),
        ("inaccurate", ctypes.c_uint64),
    )


class GetAt(ctypes.Structure):
    """struct allocinfo_get_at: the position among the tags that pass the filter, and the tag."""

    _fields_ = (("pos", ctypes.c_uint64), ("filter", _Filter), ("data", TagData))


class ContentId(ctypes.Structure):
    """struct allocinfo_content_id: another one after each load and unload of a module."""

    _fields_ = (("id", ctypes.c_uint64),)


def _command(direction: int, number: int, kind: type[ctypes.Structure]) -> int:
    """Return _IOR() or _IOWR() of include/uapi/asm-generic/ioctl.h."""
    return direction << 30 | ctypes.sizeof(kind) << 16 | 0xA6 << 8 | number


_READ, _READ_WRITE = 2, 3
CONTENT_ID = _command(_READ, 0, ContentId)
GET_AT = _command(_READ_WRITE, 1, GetAt)
GET_NEXT = _command(_READ, 2, TagData)
MIN_SIZE = 1 << 5  # ALLOCINFO_FILTER_MASK_MIN_SIZE


class NoIoctl(Exception):
    """This kernel has the text only."""


def parse(content: bytes) -> list[AllocTag]:
    """Return the lines of /proc/allocinfo that hold something."""
    return [
        _tag(file, line, function, module, int(size), calls, _INACCURATE not in markers)
        for size, calls, file, line, module, function, markers in _LINE.findall(content)
        if int(size) > 0
    ]


def _tag(
    file: bytes,
    line: bytes | int,
    function: bytes,
    module: bytes,
    size: int,
    calls: bytes | int,
    accurate: bool,
) -> AllocTag:
    return AllocTag(
        file=escape(file),
        line=int(line),
        function=escape(function),
        module=escape(module) or None,
        bytes=size,
        calls=int(calls),
        accurate=accurate,
    )


def _ioctl(descriptor: int, command: int, argument: ctypes.Structure) -> None:
    fcntl.ioctl(descriptor, command, argument)


def query(descriptor: int, ioctl: Ioctl = _ioctl) -> list[AllocTag]:
    """Return the tags that hold something, by ioctl. Raises NoIoctl if this kernel has none."""
    tags: list[AllocTag] = []
    for _ in range(_ATTEMPTS):
        before = _content_id(descriptor, ioctl)
        tags = [_of(data) for data in _walk(descriptor, ioctl)]
        if _content_id(descriptor, ioctl) == before:
            break
    return tags


def _content_id(descriptor: int, ioctl: Ioctl) -> int:
    content = ContentId()
    try:
        ioctl(descriptor, CONTENT_ID, content)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL):
            raise NoIoctl from error
        raise
    return int(content.id)


def _walk(descriptor: int, ioctl: Ioctl) -> Iterator[TagData]:
    first = GetAt(pos=0, filter=_Filter(mask=MIN_SIZE, min_size=1))
    try:
        ioctl(descriptor, GET_AT, first)
        yield first.data
        while True:
            data = TagData()
            ioctl(descriptor, GET_NEXT, data)
            yield data
    except OSError as error:
        if error.errno != errno.ENOENT:  # the end
            raise


def _of(data: TagData) -> AllocTag:
    tag = data.tag
    # The counter is signed in the kernel, and can be below 0 for a moment.
    size = ctypes.c_int64(data.bytes).value
    return _tag(
        tag.filename,
        tag.lineno,
        tag.function,
        tag.modname,
        max(0, size),
        data.calls,
        bool(data.accurate),
    )


def bounded(tags: Iterable[AllocTag], most: int = MOST_LINES) -> tuple[AllocTag, ...]:
    """Return the largest, largest first, and one row for all others."""
    rows: Sequence[AllocTag] = sorted(tags, key=lambda tag: (-tag.bytes, tag.file, tag.line))
    if len(rows) <= most:
        return tuple(rows)
    rest = rows[most - 1 :]
    other = AllocTag(
        file=OTHER_LINES,
        line=0,
        function=OTHER_LINES,
        bytes=sum(tag.bytes for tag in rest),
        calls=sum(tag.calls for tag in rest),
        accurate=all(tag.accurate for tag in rest),
    )
    return (*rows[: most - 1], other)


class AllocInfoReader:
    """Reads it, by ioctl where there is one, and repeats the last answer while another one would
    cost too much."""

    def __init__(
        self,
        path: Path = PATH,
        ioctl: Ioctl = _ioctl,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._ioctl = ioctl
        self._clock = clock
        self._due = float("-inf")
        self._rows: tuple[AllocTag, ...] | None = None

    def read(self) -> tuple[AllocTag, ...] | None:
        """Return what each line holds, or None if that cannot be read."""
        start = self._clock()
        if start < self._due:
            return self._rows
        try:
            self._rows = bounded(self._tags())
        except OSError:
            self._rows = None
        self._due = start + (self._clock() - start) / _DUTY
        return self._rows

    def _tags(self) -> list[AllocTag]:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return query(descriptor, self._ioctl)
        except NoIoctl:
            return parse(self._path.read_bytes())
        finally:
            os.close(descriptor)


def feature(path: Path = PATH, switch: Path = SWITCH) -> FeatureState:
    """Return whether this host has it, or why not."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        reason = (
            "no /proc/allocinfo: the kernel is older than 6.10, built without "
            "CONFIG_MEM_ALLOC_PROFILING, or booted with sysctl.vm.mem_profiling=never"
        )
        return FeatureState(State.OFF, reason)
    except OSError as error:
        return FeatureState(State.OFF, f"{path}: {error.strerror}")
    try:
        enabled = switch.read_text().strip() != "0"
    except OSError:
        enabled = True
    if enabled:
        return FeatureState(State.ON)
    reason = "vm.mem_profiling is 0: what is allocated meanwhile is not counted"
    return FeatureState(State.DEGRADED, reason)
