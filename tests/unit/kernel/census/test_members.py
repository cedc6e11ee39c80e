# SPDX-License-Identifier: Apache-2.0
"""Members of structs by offset, and the structs that caches are named after."""

from __future__ import annotations

from pathlib import Path

import pytest

from slabmon.kernel.census.members import NO_LINK, Structs, label
from slabmon.kernel.census.types import Types
from slabmon.kernel.probe.btf import Btf
from tests.support.btf_blob import VOID, Blob

INODE, MINE = 400, 600


@pytest.fixture
def structs(tmp_path: Path) -> Structs:
    """struct my_inode_info { void *mine; struct inode vfs_inode; }, and one with a last array."""
    blob = Blob()
    char, u64 = blob.integer("char", 1), blob.integer("unsigned long", 8)
    text, link = blob.pointer(char), blob.next_id
    blob.pointer(link + 1)
    head = blob.struct("list_head", 16, [("next", link, 0), ("prev", link, 64)])
    name = blob.struct("qstr", 16, [("hash", u64, 0), ("name", text, 64)])
    either = blob.struct("", 8, [("i_link", text, 0), ("i_seq", u64, 0)], union=True)
    slots = blob.array(text, 3)
    function = blob.pointer(blob.prototype([VOID]))
    fields = [
        ("i_list", head, 0),
        ("i_name", name, 128),
        ("", either, 256),
        ("i_end", function, 320),
    ]
    inode = blob.struct("inode", INODE, [*fields, ("i_slots", slots, 384)])
    blob.struct("my_inode_info", MINE, [("mine", text, 0), ("vfs_inode", inode, 64)])
    numbers = blob.array(u64, 0)
    blob.struct(
        "pid",
        24,
        [("level", u64, 0), ("inode", blob.pointer(inode), 64), ("numbers", numbers, 192)],
    )
    blob.struct("tcp_sock", 2000, [("x", u64, 0)])
    blob.struct("file", 184, [("x", u64, 0)])
    registers = blob.struct("fpu", 512, [("registers", blob.array(u64, 64), 0)])
    blob.struct("task_struct", 1000, [("x", u64, 0), ("fpu", registers, 488 * 8)])
    return Structs(Types(Btf(blob.build()), tmp_path))


@pytest.mark.parametrize(
    ("cache", "size", "struct"),
    [
        ("inode_cache", INODE, "inode"),
        ("inode_cache", INODE + 200, None),
        ("my_inode_cache", MINE, "my_inode_info"),
        ("my_inode_cache#2", MINE, "my_inode_info"),
        ("my_inode_cache", MINE - 8, None),
        ("pid", 40, "pid"),
        ("TCP", 2000, "tcp_sock"),
        ("filp", 184, "file"),
        ("task_struct", 800, "task_struct"),  # fewer registers than there can be
        ("task_struct", 400, None),
        ("kmalloc-192", 192, None),
        ("nothing_like_it", 24, None),
    ],
)
def test_a_cache_is_named_after_a_struct_of_its_size(
    structs: Structs, cache: str, size: int, struct: str | None
) -> None:
    found = structs.of_cache(cache, size)
    assert (structs.name(found) if found else None) == struct


@pytest.mark.parametrize(
    ("offset", "name", "pointer"),
    [
        (0, "my_inode_info.mine", True),
        (8, "inode.i_list", True),
        (16, "inode.i_list", True),
        (24, "inode.i_name.hash", False),
        (32, "inode.i_name.name", True),
        (40, "inode.i_link|inode.i_seq", True),
        (56, "inode.i_slots[]", True),
        (72, "inode.i_slots[]", True),
    ],
)
def test_a_word_has_the_name_of_its_member_in_the_struct_that_makes_up_most(
    structs: Structs, offset: int, name: str, pointer: bool
) -> None:
    slots = structs.slots(structs.find("my_inode_info"))[offset]
    assert label(slots) == name
    assert slots[0].pointer == pointer


def test_links_and_functions_are_known_as_such(structs: Structs) -> None:
    slots = structs.slots(structs.find("my_inode_info"))
    assert [slots[offset][0].link for offset in (0, 8, 16, 32)] == [NO_LINK, 8, 8, NO_LINK]
    assert [offset for offset, each in slots.items() if each[0].function] == [48]
    assert structs.flexible(structs.find("pid"))
    assert not structs.flexible(structs.find("inode"))
    [pointer] = structs.slots(structs.find("pid"))[8]
    assert structs.name(pointer.target) == "inode"
