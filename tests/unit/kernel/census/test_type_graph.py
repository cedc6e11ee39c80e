# SPDX-License-Identifier: Apache-2.0
"""How structs are found from other structs: through lists, trees and arrays, by what lies inside of
an object, from the kernel's image; what happens to contradictions, and where to look further."""

from __future__ import annotations

from pathlib import Path

import pytest

from slabmon.census.model import WidestUnknown
from tests.support.btf_blob import VOID, Blob
from tests.unit.kernel.census.test_signatures import (
    DATA,
    LIST_HEAD,
    OWNER,
    PIECE,
    TEXT,
    Host,
    blob,
    groups,
    of_cache,
)

SIZE = 512  # of a struct gizmo_box, and of its cache
FIRST, MIDDLE, SORTED, SPECIAL, MANY, CELLS, ENTRY, LINKED, VARIABLE = range(9)  # its words
VM = 56  # where a struct vmap_area has its vm
CHAINED = 16  # where a struct link has its list_head


def kernel() -> Blob:
    """The kernel: nodes of XArrays, and a struct that can be in its image."""
    types = blob()
    u64 = types.integer("unsigned long", 8)
    anything = types.pointer(VOID)
    slots = types.array(anything, 8)
    types.struct("xa_node", 72, [("array", anything, 0), ("slots", slots, 64)])
    described = types.struct("vm_struct", 72, [("next", anything, 0), ("addr", anything, 64)])
    vm = ("vm", types.pointer(described), 8 * VM)
    area = [("va_start", u64, 0), ("va_end", u64, 64), ("list", LIST_HEAD, 128), vm]
    types.struct("vmap_area", 72, area)
    types.struct("rb_node", 24, [("__rb_parent_color", u64, 0)])
    return types


def module(base: Blob) -> bytes:
    """A module with a struct that a cache is named after, and structs to which that leads."""
    types = Blob(base)
    u64 = types.integer("unsigned long", 8)

    def pointer(name: str, size: int) -> int:
        return types.pointer(types.struct(name, size, [("id", u64, 0)]))

    types.struct("early", 50, [("link", LIST_HEAD, 0), ("id", u64, 128)])
    types.struct("late", 90, [("id", u64, 0), ("link", LIST_HEAD, 8 * 72)])
    inner = types.struct("special", 40, [("id", u64, 0), ("entry", pointer("deep", 60), 64)])
    types.struct("specials", 120, [("id", u64, 0), ("special", inner, 8 * 48)])
    element = pointer("element", 200)
    many = types.struct("many", 8, [("count", u64, 0), ("all", types.array(element, 0), 64)])
    cells = types.pointer(pointer("celled", 250))
    linked = types.struct("link", 100, [("id", u64, 0), ("peers", LIST_HEAD, 8 * CHAINED)])
    variable = types.pointer(
        types.struct("variable", 24, [("id", u64, 0), ("own", pointer("owned", 90), 128)])
    )
    types.struct(
        "gizmo_box",
        SIZE,
        [
            ("first", LIST_HEAD, 8 * 8 * 10),
            ("second", LIST_HEAD, 8 * 8 * 12),
            ("special", types.pointer(inner), 8 * 8 * SPECIAL),
            ("many", types.pointer(many), 8 * 8 * MANY),
            ("cells", cells, 8 * 8 * CELLS),
            ("entry", pointer("entry", 30), 8 * 8 * ENTRY),
            ("linked", types.pointer(linked), 8 * 8 * LINKED),
            ("variable", variable, 8 * 8 * VARIABLE),
        ],
    )
    return types.build()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    types = kernel()
    made = Host(tmp_path, types)
    made.modules.mkdir()
    (made.modules / "gizmo").write_bytes(module(types))
    return made


def box(host: Host, word: int, target: int) -> int:
    """Allocate a struct gizmo_box, one word of which points to something."""
    address = host.new("gizmo_box_cache", SIZE)
    host.point(address + 8 * word, target)
    return address


def link(host: Host, heads: list[int]) -> None:
    """Link list_heads into one list."""
    for before, after in zip(heads, [*heads[1:], heads[0]], strict=True):
        host.point(before, after)
        host.point(after + 8, before)


def test_members_of_a_list_are_of_the_struct_that_is_linked_there(host: Host) -> None:
    """Two lists, whose members are linked at different offsets."""
    owner = box(host, 0, 0)
    early = [host.kmalloc(64) for _ in range(5)]
    late = [host.kmalloc(96) for _ in range(3)]
    link(host, [owner + 80, *early])
    link(host, [owner + 96, *(address + 72 for address in late)])
    owners = host.census()
    found = {(row.type, row.objects) for row in owners.rows if "kmalloc" in row.cache}
    assert found == {("early", 5), ("late", 3)}


def test_what_contains_a_known_struct_is_known_by_its_place(host: Host) -> None:
    container = host.kmalloc(128)
    box(host, SPECIAL, container + 48)
    host.point(container + 48 + 8, host.kmalloc(64))
    owners = host.census()
    assert of_cache(owners, "kmalloc-128").type == "specials"
    assert of_cache(owners, "kmalloc-64").type == "deep"


def test_arrays_at_the_end_of_a_struct_and_arrays_of_pointers(host: Host) -> None:
    many, cells = host.kmalloc(32), host.kmalloc(96)
    box(host, MANY, many)
    box(host, CELLS, cells)
    for number in range(3):
        host.point(many + 8 + 8 * number, host.kmalloc(256))
    for number in range(5):
        host.point(cells + 8 * number, host.kmalloc(256))
    owners = host.census()
    assert of_cache(owners, "kmalloc-32").type == "many"
    found = {row.type: row.objects for row in owners.rows if row.cache == "kmalloc-256"}
    assert found == {"element": 3, "celled": 5}


def test_what_is_in_one_xarray_is_of_one_struct(host: Host) -> None:
    """But not what is in another one, nor what has another size."""
    inside = [host.kmalloc(32) for _ in range(4)]
    for tree, entries in ((0x1000, inside[:3]), (0x2000, inside[3:])):
        node = host.new("radix_tree_node", 72)
        host.point(node, DATA + tree)
        for number, entry in enumerate(entries):
            host.point(node + 8 + 8 * number, entry)
    box(host, ENTRY, inside[0])
    found = {row.type: row.objects for row in host.census().rows if row.cache == "kmalloc-32"}
    assert found == {"entry": 3, None: 1}


def test_few_of_an_xarray_do_not_speak_for_all(host: Host) -> None:
    inside = [host.kmalloc(32) for _ in range(5)]
    node = host.new("radix_tree_node", 72)
    host.point(node, DATA + 0x1000)
    for number, entry in enumerate(inside):
        host.point(node + 8 + 8 * number, entry)
    box(host, ENTRY, inside[0])
    found = {row.type: row.objects for row in host.census().rows if row.cache == "kmalloc-32"}
    assert found == {"entry": 1, None: 4}


@pytest.mark.parametrize("aliases", [{}, {"vmap_area": ("gizmo_area",)}], ids=["own", "merged"])
def test_an_area_of_vmalloc_that_was_given_back_names_nothing(
    host: Host, aliases: dict[str, tuple[str, ...]]
) -> None:
    """Its vm_struct is free, and was allocated again as something else."""
    start = 0xFFFFC90000000000
    areas = []
    for address in (start, start + 0x5000):
        described = host.kmalloc(96)
        host.point(described + 8, start)
        area = host.new("vmap_area", 72)
        host.point(area, address)
        host.point(area + 8, address + 0x5000)
        host.point(area + VM, described)
        areas.append(area)
    link(host, [area + 16 for area in areas])
    found = {r.type: r.objects for r in host.census(aliases).rows if r.cache == "kmalloc-96"}
    assert found == {"vm_struct": 1, None: 1}


def test_structs_in_the_image_lead_to_objects(host: Host) -> None:
    host.kernel.memory.write(DATA + 0x40, bytes(64))
    box(host, VARIABLE, DATA + 0x40)
    host.point(DATA + 0x40 + 16, host.kmalloc(96))
    row = of_cache(host.census(), "kmalloc-96")
    assert (row.type, row.signature) == ("owned", "struct owned, pointed to by variable.own")


def test_contradictions_are_counted_and_more_evidence_wins(host: Host) -> None:
    """Two pointers to one object are declared to point to different structs of its size; another
    object of one of them is linked to it as its like are."""
    first, second = host.kmalloc(128), host.kmalloc(128)
    host.holder(3, first)  # part128
    box(host, LINKED, first)
    box(host, LINKED, second)
    host.kernel.circle(first + CHAINED, [second + CHAINED])
    owners = host.census()
    assert owners.contradictions == 1
    found = {row.type: row.objects for row in owners.rows if row.cache == "kmalloc-128"}
    assert found == {"link": 2}


def test_where_to_look_for_structs_that_are_not_known(host: Host) -> None:
    """Objects that hold a function lead to five others, two of them in one another; another one
    leads to two."""
    for _ in range(2):
        first = host.kmalloc(512)
        host.point(first + 24, TEXT + 0x100)
        inner = host.kmalloc(192)
        host.point(first + 64, inner)
        host.point(inner + 40, host.kmalloc(1024))
    other = host.kmalloc(2048)
    for number in range(3):
        host.point(other + 8 * number, host.kmalloc(64))
    assert host.census().widest_unknown == WidestUnknown(
        cache="kmalloc-512",
        signature="holds timer_fires at +24",
        objects=2,
        reached_objects=4,
        reached_bytes=2 * (192 + 1024),
    )


def test_if_all_that_leads_to_others_is_known_there_is_nothing_to_look_for(host: Host) -> None:
    host.holder(PIECE, host.kmalloc(96))
    owners = host.census()
    assert owners.widest_unknown is None
    assert of_cache(owners, OWNER).objects == 1
    assert groups(owners, "kmalloc-96") == {"struct piece, pointed to by holder.more4": 1}
