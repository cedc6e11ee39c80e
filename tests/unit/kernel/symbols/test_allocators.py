# SPDX-License-Identifier: Apache-2.0
"""Who asked for pages or per-CPU memory, from stacks of several kernels."""

from __future__ import annotations

import pytest

from slabmon.kernel.symbols.allocators import find_caller, plain
from slabmon.kernel.symbols.kallsyms import UNKNOWN, Location

NOWHERE = Location(UNKNOWN, 0, None)


def stack(text: str) -> list[Location]:
    """Locations of functions, innermost first; one in a module has its name behind a colon."""
    places = (name.partition(":") for name in text.split())
    return [Location(symbol, 16, module or None) for symbol, _, module in places]


@pytest.mark.parametrize(
    ("frames", "site", "by", "account"),
    [
        ("__alloc_pages_nodemask __get_free_pages probe:card", "probe", "__get_free_pages", None),
        (
            "__alloc_pages_nodemask alloc_pages_current __get_free_pages get_zeroed_page open:card",
            "open",
            "get_zeroed_page",
            None,
        ),
        (
            "__alloc_frozen_pages_noprof alloc_pages_mpol alloc_frozen_pages_noprof "
            "get_free_pages_noprof __pollwait",
            "__pollwait",
            "__get_free_pages",
            None,
        ),
        (
            "__traceiter_mm_page_alloc __alloc_pages alloc_pages anon_pipe_write",
            "anon_pipe_write",
            "alloc_pages",
            None,
        ),
        (
            "__alloc_pages_noprof alloc_pages_exact_noprof alloc_page_buffers",
            "alloc_page_buffers",
            "alloc_pages_exact",
            None,
        ),
        (
            "__alloc_pages __page_frag_cache_refill page_frag_alloc_align __netdev_alloc_skb",
            "__netdev_alloc_skb",
            "page_frag_alloc_align",
            None,
        ),
        ("__alloc_pages_noprof folio_alloc_noprof readahead", "readahead", "folio_alloc", None),
        (
            "__alloc_pages __vmalloc_area_node __vmalloc_node_range.constprop.0 vmalloc open:card",
            "open",
            "vmalloc",
            "vmalloc",
        ),
        (
            "__alloc_frozen_pages_noprof allocate_slab new_slab ___slab_alloc.isra.0 "
            "kmem_cache_alloc_lru_noprof __d_alloc",
            "__d_alloc",
            "kmem_cache_alloc_lru",
            "slab",
        ),
        (
            "__alloc_pages ___kmalloc_large_node __kmalloc_large_node_noprof __kmalloc_noprof "
            "__kvmalloc_node_noprof open:card",
            "open",
            "__kvmalloc_node",
            "slab",
        ),
        ("__alloc_pages alloc_pages pte_alloc_one", "pte_alloc_one", "alloc_pages", "page_tables"),
        (
            "__alloc_pages_noprof pcpu_populate_chunk pcpu_balance_workfn process_one_work",
            "process_one_work",
            "pcpu_balance_workfn",
            "percpu",
        ),
        (
            "pcpu_alloc __alloc_percpu_gfp fib_nh_common_init",
            "fib_nh_common_init",
            "__alloc_percpu",
            "percpu",
        ),
        ("pcpu_alloc_noprof mm_init", "mm_init", "pcpu_alloc", "percpu"),
        ("__alloc_pages alloc_pages:card", "alloc_pages", "__alloc_pages", None),
        ("__alloc_pages", UNKNOWN, "__alloc_pages", None),
        ("", UNKNOWN, "", None),
    ],
)
def test_the_first_function_that_is_no_allocator_is_the_call_site(
    frames: str, site: str, by: str, account: str | None
) -> None:
    caller = find_caller(stack(frames), NOWHERE)
    assert (caller.site.symbol, caller.account) == (site, account)
    assert caller.by == by


@pytest.mark.parametrize(
    "name",
    [
        "alloc_page_buffers",
        "alloc_pagevec",
        "dma_pool_alloc",
        "mempool_resize",
        "page_pool_alloc_netmems",
    ],
)
def test_what_sounds_like_the_allocator_but_is_its_user(name: str) -> None:
    assert find_caller(stack(f"__alloc_pages {name}"), NOWHERE).site.symbol == name


def test_what_compiler_and_profiling_add_is_no_part_of_a_name() -> None:
    assert plain("alloc_pages_exact_noprof") == "alloc_pages_exact"
    assert plain("___slab_alloc.constprop.0.isra.3#2") == "___slab_alloc"
