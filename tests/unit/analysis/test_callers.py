# SPDX-License-Identifier: Apache-2.0
"""Callers: the first functions on stacks that are no helpers."""

from __future__ import annotations

import numpy as np
import pytest

from slabmon.analysis.callers import (
    caller_of,
    callers,
    is_helper,
    largest_callers,
    main_callers,
)
from tests.support.builders import Object, cache, site, snapshot, tracked

TRACED = "__traceiter_kmalloc"


@pytest.mark.parametrize(
    ("frames", "caller"),
    [
        # As seen on 6.18.
        ((TRACED, "__kmalloc_noprof", "load_msg", "do_msgsnd"), "load_msg"),
        (
            (
                "kmem_cache_alloc_lru_noprof",
                "shmem_alloc_inode",
                "alloc_inode",
                "new_inode",
                "__shmem_get_inode",
                "__shmem_file_setup",
            ),
            "__shmem_get_inode",
        ),
        (
            (
                "__traceiter_kmem_cache_alloc",
                "kmem_cache_alloc_node_noprof",
                "__alloc_skb",
                "alloc_skb_with_frags",
                "sock_alloc_send_pskb",
                "unix_stream_sendmsg",
            ),
            "unix_stream_sendmsg",
        ),
        (
            (
                "__kmalloc_node_track_caller_noprof",
                "kmalloc_reserve",
                "__alloc_skb",
                "tcp_send_ack",
            ),
            "tcp_send_ack",
        ),
        (("kmem_cache_alloc_noprof", "mas_preallocate", "__split_vma"), "__split_vma"),
        (
            (
                "kmem_cache_alloc_from_sheaf_noprof",
                "mas_new_ma_node.isra.0",
                "mas_wr_bnode",
                "mas_store_prealloc",
                "vma_complete",
            ),
            "vma_complete",
        ),
        (
            (
                "kmem_cache_alloc_lru_noprof",
                "xas_alloc",
                "xas_create",
                "xas_store",
                "shmem_add_to_page_cache",
            ),
            "shmem_add_to_page_cache",
        ),
        (
            ("kmem_cache_alloc_noprof", "sk_prot_alloc", "sk_clone_lock", "inet_csk_clone_lock"),
            "inet_csk_clone_lock",
        ),
        (("__kmalloc_noprof", "kmalloc_array_noprof.constprop.0#3", "bpf_check"), "bpf_check"),
        (("kzalloc_noprof.constprop.0", "vme_probe [vme]"), "vme_probe [vme]"),
        (
            (
                "__kmalloc_node_track_caller_noprof",
                "alloc_dr",
                "devm_kmalloc",
                "devm_kstrdup",
                "card_probe [card]",
            ),
            "card_probe [card]",
        ),
        (("__kmalloc_node_track_caller", "kmemdup", "fib_create_info"), "fib_create_info"),
        (
            ("mempool_alloc_slab", "mempool_alloc", "bio_alloc_bioset", "submit_bh_wbc"),
            "submit_bh_wbc",
        ),
        (("__kvmalloc_node_noprof", "seq_read_iter"), "seq_read_iter"),
        (
            ("kmem_cache_alloc", "__d_alloc", "d_alloc", "d_alloc_parallel", "__lookup_slow"),
            "__lookup_slow",
        ),
        (("alloc_empty_file", "path_openat"), "path_openat"),
        (
            (
                "<kernel::alloc::allocator::Kmalloc as kernel::alloc::Allocator>::realloc",
                "rust_binder::thread::Thread::new [rust_binder]",
            ),
            "rust_binder::thread::Thread::new [rust_binder]",
        ),
        ((TRACED, "__kmalloc_noprof"), None),
        ((), None),
    ],
)
def test_the_caller_is_the_first_function_that_is_no_helper(
    frames: tuple[str, ...], caller: str | None
) -> None:
    assert caller_of(frames) == caller


@pytest.mark.parametrize(
    "function",
    [
        "copy_process",
        "vm_area_alloc",
        "load_msg",
        "kernfs_fop_open",
        "alloc_pid",
        "sget_fc",
        "kthread_create_on_node",
        "do_epoll_ctl",
        "nvme_alloc_queue",
        "alloc_workqueue",
        "ext4_mb_new_blocks",
        "masquerade_inet6_event",
        "xarray_user",
        "sg_ioctl",
        "kcm_attach",
        "inet_create",
        "mm_alloc",
        "idle_thread_get",
        "kvm_create_vm",
        "kernel_clone",
        "seq_client_event_filter",
        "memory_tier_init",
        "devlink_alloc_ns",
    ],
)
def test_functions_that_know_what_they_allocate_for_are_no_helpers(function: str) -> None:
    assert not is_helper(function)


STACKS = {
    1: ("__alloc_skb", "tcp_send_ack"),
    2: ("__alloc_skb", "unix_stream_sendmsg"),
    3: ("__alloc_skb",),
}
SITES = (site("__alloc_skb", 0x80), site("load_msg", 4), site("probe", 8, "card"))
OBJECTS = [
    Object(bytes=300, site=0, stack=1),
    Object(bytes=100, site=0, stack=2),
    Object(bytes=64, site=0, stack=3),
    Object(bytes=64, site=1, stack=-1),
    Object(bytes=64, site=2, stack=9),
]
HOST = snapshot(caches=(cache(),), sites=SITES, tracked=tracked(OBJECTS, STACKS))


def test_each_object_has_a_caller() -> None:
    """Without a stack, or one of helpers alone, it is the function of the call site."""
    index, labels = callers(HOST, HOST.tracked)
    assert [labels[i] for i in index] == [
        "tcp_send_ack",
        "unix_stream_sendmsg",
        "__alloc_skb",
        "load_msg",
        "probe [card]",
    ]


def test_the_main_caller_of_a_row_has_its_share() -> None:
    members = HOST.tracked.site
    assert main_callers(HOST, members, 4) == ["tcp_send_ack 65%", "load_msg", "probe [card]", None]
    nobody = np.full(len(members), -1)
    assert main_callers(HOST, nobody, 2) == [None, None]


def test_the_largest_callers_come_first() -> None:
    assert largest_callers(HOST, [0, 1, 2], 2) == ("tcp_send_ack 65%", "unix_stream_sendmsg 22%")
    assert largest_callers(HOST, [], 2) == ()


def test_without_objects_there_are_no_callers() -> None:
    empty = snapshot(sites=SITES)
    assert main_callers(empty, empty.tracked.site, 3) == [None] * 3
