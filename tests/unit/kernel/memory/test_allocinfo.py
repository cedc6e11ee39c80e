# SPDX-License-Identifier: Apache-2.0
"""/proc/allocinfo as text and by ioctl. No kernel of the tests has it: both are made up, the text
as Documentation/filesystems/proc.rst shows it, the ioctl as include/uapi/linux/alloc_tag.h."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest

from slabmon.kernel.memory.allocinfo import (
    CONTENT_ID,
    GET_AT,
    GET_NEXT,
    MIN_SIZE,
    AllocInfoReader,
    ContentId,
    GetAt,
    NoIoctl,
    TagData,
    bounded,
    feature,
    parse,
    query,
)
from slabmon.memory.reading import AllocTag
from slabmon.model import State

TEXT = b"""\
allocinfo - version: 2.0
#     <size>  <calls> <tag info>
        7919       31 kernel/fork.c:311 func:alloc_thread_stack_node \n\
   601000064      997 drivers/net/veth.c:53 [veth] func:veth_newlink accurate:no \n\
           0        0 mm/slub.c:7 func:unused \n\
        -128        1 mm/slub.c:9 func:just_now \n\
"""
FORK = AllocTag(
    file="kernel/fork.c", line=311, function="alloc_thread_stack_node", bytes=7919, calls=31
)
VETH = AllocTag(
    file="drivers/net/veth.c",
    line=53,
    function="veth_newlink",
    module="veth",
    bytes=601000064,
    calls=997,
    accurate=False,
)


class FakeKernel:
    """The ioctl: tags in order, of which those pass that hold at least what the filter says."""

    def __init__(self, *tags: tuple[bytes, bytes, bytes, int, int, int, int]) -> None:
        self.tags = list(tags)
        self.contents = [7]  # content ids to come, the last one again and again
        self.calls: list[int] = []
        self._position = 0
        self._least = 0

    def __call__(self, descriptor: int, command: int, argument: ctypes.Structure) -> None:
        self.calls.append(command)
        if command == CONTENT_ID:
            assert isinstance(argument, ContentId)
            argument.id = self.contents.pop(0) if len(self.contents) > 1 else self.contents[0]
        elif command == GET_AT:
            assert isinstance(argument, GetAt)
            assert argument.filter.mask == MIN_SIZE
            self._least, self._position = argument.filter.min_size, argument.pos
            self._next(argument.data)
        else:
            assert command == GET_NEXT
            assert isinstance(argument, TagData)
            self._next(argument)

    def _next(self, data: TagData) -> None:
        passing = [tag for tag in self.tags if tag[4] >= self._least]
        if self._position >= len(passing):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        module, function, file, line, size, calls, accurate = passing[self._position]
        self._position += 1
        data.tag.modname, data.tag.function, data.tag.filename = module, function, file
        data.tag.lineno, data.bytes, data.calls, data.accurate = line, size, calls, accurate


def kernel() -> FakeKernel:
    return FakeKernel(
        (b"", b"alloc_thread_stack_node", b"kernel/fork.c", 311, 7919, 31, 1),
        (b"", b"unused", b"mm/slub.c", 7, 0, 0, 1),
        (b"veth", b"veth_newlink", b"drivers/net/veth.c", 53, 601000064, 997, 0),
    )


def test_lines_that_hold_something_are_parsed_exactly() -> None:
    assert parse(TEXT) == [FORK, VETH]
    assert parse(TEXT.replace(b"2.0", b"1.0").replace(b" accurate:no", b""))[1].accurate


def test_commands_and_structures_are_those_of_the_header() -> None:
    """As a C compiler says of include/uapi/linux/alloc_tag.h of 7.3.4 on x86-64."""
    assert [ctypes.sizeof(kind) for kind in (ContentId, TagData, GetAt)] == [8, 224, 464]
    assert (CONTENT_ID, GET_AT, GET_NEXT) == (0x8008A600, 0xC1D0A601, 0x80E0A602)


def test_the_ioctl_gives_the_same_as_the_text() -> None:
    fake = kernel()
    assert query(-1, fake) == parse(TEXT)
    assert fake.calls == [CONTENT_ID, GET_AT, GET_NEXT, GET_NEXT, CONTENT_ID]


def test_a_module_that_comes_meanwhile_has_it_read_again() -> None:
    fake = kernel()
    fake.contents = [7, 8, 8, 8]
    assert query(-1, fake) == [FORK, VETH]
    assert fake.calls.count(GET_AT) == 2


def test_a_kernel_where_nothing_holds_anything() -> None:
    assert query(-1, FakeKernel()) == []


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EINVAL])
def test_kernels_without_the_ioctl_are_told_apart(number: int) -> None:
    def none(descriptor: int, command: int, argument: ctypes.Structure) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(NoIoctl):
        query(-1, none)


def test_a_file_is_read_as_text_where_there_is_no_ioctl(tmp_path: Path) -> None:
    path = tmp_path / "allocinfo"
    path.write_bytes(TEXT)
    assert AllocInfoReader(path).read() == (VETH, FORK)
    assert AllocInfoReader(tmp_path / "none").read() is None


def test_reading_takes_its_share_of_the_time_only(tmp_path: Path) -> None:
    path, fake, times = tmp_path / "allocinfo", kernel(), [0.0, 0.1, 49.0, 51.0, 51.2]
    path.write_bytes(b"")
    reader = AllocInfoReader(path, fake, lambda: times.pop(0))
    assert reader.read() == (VETH, FORK)
    fake.tags.clear()
    assert reader.read() == (VETH, FORK), "it took 0.1 s, so it waits for 50"
    assert reader.read() == ()


def test_the_largest_are_kept_and_the_others_summed() -> None:
    tags = [AllocTag(file="a.c", line=i, function="f", bytes=i, calls=1) for i in range(1, 8)]
    kept = bounded([*tags, VETH], 3)
    assert [tag.bytes for tag in kept] == [VETH.bytes, 7, 21]
    assert (kept[-1].file, kept[-1].calls, kept[-1].accurate) == ("others", 6, True)


def test_the_feature_says_why_it_is_off(tmp_path: Path) -> None:
    path, switch = tmp_path / "allocinfo", tmp_path / "mem_profiling"
    off = feature(path, switch)
    assert off.state == State.OFF
    assert "CONFIG_MEM_ALLOC_PROFILING" in off.reason
    path.write_bytes(TEXT)
    assert feature(path, switch).state == State.ON
    switch.write_text("1\n")
    assert feature(path, switch).state == State.ON
    switch.write_text("0\n")
    assert feature(path, switch).state == State.DEGRADED
