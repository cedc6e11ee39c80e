# SPDX-License-Identifier: Apache-2.0
"""What is left of a command's objects: judged, grouped by stack, with devices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slabmon.analysis.leftovers import Leftovers, LeftStack, Reason, find_leftovers
from slabmon.model import Context, Snapshot
from tests.support.builders import (
    ATOMIC_FLAGS,
    KERNEL_FLAGS,
    Object,
    cache,
    device,
    site,
    snapshot,
    tracked,
)

OPEN = ("__traceiter_kmalloc", "kmalloc", "open_thing [thing]", "vfs_open", "do_syscall_64")
STACKS = {
    1: OPEN,
    2: ("kmalloc", "alloc_skb", "handle_softirqs", "asm_common_interrupt", "do_syscall_64"),
    3: ("kmalloc", "alloc_slab_obj_exts", "allocate_slab", "do_syscall_64"),
    4: ("kmalloc", "inode_hook", "lookup_open.isra.0", "ext4_iget", "do_syscall_64"),
    5: OPEN,
    6: ("kmalloc", "fault_thing", "handle_mm_fault", "asm_exc_page_fault"),
    8: ("kmalloc", "__get_vm_area_node", "__vmalloc_node_range_noprof", "copy_process"),
    9: ("kmem_cache_alloc", "alloc_vmap_area", "__get_vm_area_node", "do_thing"),
    10: ("kmem_cache_alloc", "mempool_alloc", "bio_alloc_bioset", "ext4_mpage_readpages"),
    7: ("kmalloc", "timer_thing", "asm_sysvec_apic_timer_interrupt", "cpu_idle"),
}
SITES = (
    site("open_thing", 0x1C, "thing"),
    site("alloc_skb"),
    site("alloc_slab_obj_exts"),
    site("inode_hook"),
    site("fault_thing"),
    site("timer_thing"),
    site("__get_vm_area_node"),
    site("alloc_vmap_area"),
    site("bio_alloc_bioset"),
)


def host(*objects: Object, **fields: Any) -> Snapshot:
    return snapshot(
        caches=(cache(), cache("kmalloc-128"), cache("bio-200")),
        sites=SITES,
        tracked=tracked(objects, STACKS),
        **{"devices": (), **fields},
    )


def left(*objects: Object, by_process: bool = True) -> Leftovers:
    return find_leftovers(host(), host(*objects), by_process=by_process)


def test_nothing_is_left_of_nothing() -> None:
    assert left() == Leftovers()
    assert (left().objects, left().bytes) == (0, 0)


def test_objects_of_one_stack_site_and_cache_are_one_row() -> None:
    found = left(
        *(Object(stack=1, bytes=64, age=age, comm=b"cat") for age in (3.0, 1.5)),
        Object(stack=5, bytes=64, age=2.0, comm=b"dd"),
        Object(stack=1, bytes=128, cache=1),
    )
    row, other = found.stacks
    assert row == LeftStack(
        cache="kmalloc-64",
        site=SITES[0],
        stack=("open_thing [thing]", "vfs_open", "do_syscall_64"),
        objects=3,
        bytes=192,
        requested_bytes=192,
        processes={"cat": 2, "dd": 1},
        youngest_seconds=1.5,
        oldest_seconds=3.0,
    )
    assert (other.cache, other.objects, other.bytes) == ("kmalloc-128", 1, 128)
    assert (found.objects, found.bytes) == (4, 320)


@pytest.mark.parametrize(
    ("thing", "reason"),
    [
        (Object(stack=2, site=1, gfp=ATOMIC_FLAGS, context=Context.SOFTIRQ), Reason.INTERRUPT),
        (Object(stack=7, site=5, gfp=ATOMIC_FLAGS, context=Context.IRQ), Reason.INTERRUPT),
        (Object(stack=-17, site=1, gfp=ATOMIC_FLAGS, context=Context.IRQ), Reason.INTERRUPT),
        (Object(stack=3, site=2), Reason.ALLOCATOR),
        (Object(stack=4, site=3), Reason.FILE_SYSTEM),
        (Object(stack=8, site=6), Reason.KERNEL_STACK),
        (Object(stack=9, site=7), Reason.ALLOCATOR),
        (Object(stack=10, site=8, cache=2), Reason.BIO),
        (Object(stack=10, site=8), None),
        (Object(stack=-17, site=1, gfp=ATOMIC_FLAGS, context=Context.UNKNOWN), Reason.UNKNOWN),
        (Object(stack=-17, site=1, gfp=KERNEL_FLAGS, context=Context.UNKNOWN), None),
        (Object(stack=-17, site=1, gfp=ATOMIC_FLAGS), None),
        (Object(stack=6, site=4, gfp=KERNEL_FLAGS), None),
        (Object(stack=1, gfp=ATOMIC_FLAGS), None),
    ],
)
def test_a_process_is_not_blamed_for_what_only_happens_in_it(
    thing: Object, reason: Reason | None
) -> None:
    found = left(thing)
    assert found.not_judged == ({reason: 1} if reason else {})
    assert found.objects == (reason is None)


def test_what_a_module_allocates_is_judged_wherever_it_runs() -> None:
    softirq = Object(stack=2, site=1, gfp=ATOMIC_FLAGS, context=Context.SOFTIRQ)
    found = left(softirq, Object(stack=4), by_process=False)
    assert (found.objects, found.not_judged) == (2, {})


def test_reclaimable_caches_are_judged_only_if_they_are_named() -> None:
    after = replace(host(Object(stack=1)), caches=(cache(reclaimable=True),))
    found = find_leftovers(host(), after, by_process=True)
    assert found.not_judged == {Reason.RECLAIMABLE: 1}
    for by_process, by_cache in ((True, True), (False, False)):
        found = find_leftovers(host(), after, by_process=by_process, by_cache=by_cache)
        assert (found.objects, found.not_judged) == (1, {})


def test_objects_without_a_stack_are_listed_by_call_site() -> None:
    (row,) = left(Object(stack=-17), Object(stack=-12)).stacks
    assert (row.objects, row.stack, row.site) == (2, (), SITES[0])


def test_devices_are_those_whose_driver_is_on_a_stack_or_named() -> None:
    mine = device("pci", "a", driver="thing", module="thing", resources=5, managed_bytes=500)
    new = device("usb", "b", driver="thing", module="thing", resources=2, managed_bytes=20)
    other = device("pci", "c", driver="other", module="other", resources=9, managed_bytes=90)
    before = host(devices=(replace(mine, resources=3, managed_bytes=120),))
    for after, module in (
        (host(Object(stack=1), devices=(mine, new, other)), None),
        (host(devices=(mine, new, other)), "thing"),
    ):
        found = find_leftovers(before, after, by_process=True, module=module).devices
        assert [(row.name, row.resources, row.bytes) for row in found] == [
            ("a", 2, 380),
            ("b", 2, 20),
        ]
    nothing = find_leftovers(before, host(devices=(other,)), by_process=True)
    assert nothing.devices == ()
