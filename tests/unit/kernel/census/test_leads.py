# SPDX-License-Identifier: Apache-2.0
"""Structs that begin with others, and what the kernel's source, but no type, says is in a list,
behind a pointer to anything, or behind a variable: in memory made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.btf_blob import VOID, Blob
from tests.unit.kernel.census.test_signatures import (
    DATA,
    LIST_HEAD,
    TEXT,
    Host,
    blob,
    of_cache,
)


def kernel() -> Blob:
    """Structs named as the kernel's, with as much of them as is looked at. A gear and a wheel begin
    with a device; task_struct and module have caches of their own."""
    types = blob()
    u64 = types.integer("unsigned long", 8)
    anything, function = types.pointer(VOID), types.pointer(types.prototype([VOID]))
    fields = [("id", u64, 0), ("release", function, 64), ("entry", LIST_HEAD, 128)]
    device = types.struct("device", 80, fields)
    for name, own in (("gear", function), ("wheel", types.pointer(device))):
        types.struct(name, 96, [("dev", device, 0), ("own", own, 8 * 88)])
    types.struct("module_use", 40, [("source_list", LIST_HEAD, 0), ("target_list", LIST_HEAD, 128)])
    types.struct("kthread", 100, [("id", u64, 0), ("threadfn", function, 64)])
    fields = [("worker_private", anything, 0), ("device", types.pointer(device), 64)]
    types.struct("task_struct", 2000, fields)
    types.struct("module", 1000, [("source_list", LIST_HEAD, 64)])
    types.struct("char_device_struct", 48, [("next", anything, 0)])
    return types


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path, kernel())


def task(host: Host, word: int, target: int) -> None:
    host.point(host.new("task_struct", 2000) + 8 * word, target)


def types_in(host: Host, cache: str) -> dict[str | None, int]:
    """Objects of a cache by struct."""
    found: dict[str | None, int] = {}
    for row in host.census().rows:
        if row.cache == cache:
            found[row.type] = found.get(row.type, 0) + row.objects
    return found


def test_of_structs_that_begin_with_another_the_one_whose_members_fit(host: Host) -> None:
    """Two of five have a function where a gear has one. What else begins with a device is counted
    as one: a device is not against it."""
    for number in range(5):
        device = host.kmalloc(96)
        task(host, 1, device)
        if number < 2:
            host.point(device + 88, TEXT + 0x100)
    assert types_in(host, "kmalloc-96") == {"gear": 2, "device": 3}
    assert host.census().contradictions == 0


def test_a_list_whose_head_says_what_is_in_it(host: Host) -> None:
    """Elsewhere in the kernel a head says nothing."""
    head = host.new("module", 1000) + 8
    uses = [host.kmalloc(64) for _ in range(4)]
    host.kernel.circle(head, uses)
    assert types_in(host, "kmalloc-64") == {"module_use": 4}


def test_what_a_pointer_to_anything_often_points_to_must_prove_it(host: Host) -> None:
    thread, other = host.kmalloc(128), host.kmalloc(128)
    host.point(thread + 8, TEXT + 0x100)
    host.point(other + 8, 42)
    task(host, 0, thread)
    task(host, 0, other)
    assert types_in(host, "kmalloc-128") == {"kthread": 1, None: 1}


def test_variables_that_point_to_one_struct(host: Host) -> None:
    host.kernel.memory.write(DATA, bytes(4096))
    host.point(DATA + 0x108, host.kmalloc(64))
    names = ("chrdevs" if n == 1 else f"variable{n}" for n in range(400))
    lines = [f"{DATA + 0x100 * n:016x} D {name}\n" for n, name in enumerate(names)]
    host.listing.write_text(host.listing.read_text() + "".join(lines))
    row = of_cache(host.census(), "kmalloc-64")
    assert row.type == "char_device_struct"
    assert row.signature == "struct char_device_struct, pointed to by variable chrdevs"


def test_what_is_linked_by_the_struct_they_begin_with_is_of_that(host: Host) -> None:
    """A gear in the list of all devices says that the others are devices, not that they are gears,
    nor of those of another size."""
    gear, devices = host.kmalloc(96), [host.kmalloc(96) for _ in range(3)]
    host.point(gear + 88, TEXT + 0x100)
    task(host, 1, gear)
    host.kernel.circle(gear + 16, [each + 16 for each in (*devices, host.kmalloc(192))])
    assert types_in(host, "kmalloc-96") == {"gear": 1, "device": 3}
    assert types_in(host, "kmalloc-192") == {None: 1}
