# SPDX-License-Identifier: Apache-2.0
"""Who asked for pages or per-CPU memory: the first function on a stack that is no allocator.

Names from mm/page_alloc.c, mm/mempolicy.c, mm/page_frag_cache.c, mm/mempool.c, mm/vmalloc.c,
mm/slub.c, mm/percpu.c and kernel/dma/ of 5.10 to 7.3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from slabmon.kernel.symbols.kallsyms import Location

_TRACING = re.compile(r"_*traceiter_|__bpf_trace_")
# _noprof: since 24e44cc22aa3 "mm: percpu: enable per-cpu allocation tagging" and the commits before
# it (6.10) the plain names are macros.
_DECORATION = re.compile(r"(_noprof)?(\.(constprop|isra|part|cold|llvm)(\.\d+)*)*(#\d+)?$")
_PAGES = re.compile(
    r"(__)?(get_free_pages|get_dma_pages)|get_zeroed_page"
    r"|_*alloc_(frozen_)?pages?(_(nodemask|current|vma|mpol|node|nolock|exact(_nid)?|bulk\w*"
    r"|preferred_many|frozen))*|alloc_page_interleave|alloc_pages_bulk_\w+|try_alloc_pages"
    r"|alloc_frozen_pages_nolock|_*folio_alloc(_mpol|_node)?|vma_alloc_(zeroed_movable_)?folio"
    r"|_*page_frag_(alloc(_align|_commit)?|cache_refill|refill|alloc_refill\w*)"
    r"|_*page_frag_alloc\w*|mempool_alloc(_pages|_node|_bulk)?|mempool_init\w*|make_alloc_exact"
    r"|_*dmam?_(alloc\w*|direct_alloc\w*|pgprot\w*)|_*iommu_dma_alloc\w*|dma_common_\w+"
)
_VMALLOC = re.compile(
    r"__vmalloc_area_node|vm_area_alloc_pages|__vmalloc\w*|vmalloc\w*|vzalloc\w*|execmem_\w*alloc\w*"
)
_SLAB = re.compile(
    r"allocate_slab|_*new_slab|alloc_slab_page|alloc_single_from_new_slab|_*slab_alloc\w*"
    r"|refill_(objects|sheaf)\w*|_*pcs_\w+|alloc_(full|empty)_sheaf|_*kmem_cache_alloc\w*"
    r"|_*k[mzc]alloc\w*|_*kmalloc_large\w*|_*do_kmalloc\w*|_*krealloc\w*|_*refill_obj\w*"
    r"|_*kmem_cache_(refill|prefill)\w*|alloc_from_(pcs|new_slab)\w*|get_(partial|from_any)\w*"
)
_KVMALLOC = re.compile(r"_*kv[mzcr]e?alloc\w*")
_PERCPU = re.compile(r"_*pcpu_\w+|__alloc_percpu\w*|alloc_percpu\w*")
_PAGE_TABLES = re.compile(r"_*p(te|md|ud|4d|gd)_alloc\w*|pgd_alloc|_*pte_alloc_one\w*")
# Functions that are macros since 6.10, by what they expand to.
_MACROS = {"get_free_pages": "__get_free_pages", "__alloc_percpu_gfp": "__alloc_percpu"}


class Caller(NamedTuple):
    """A call site, the allocator's function it called ("": not known), and the row of the ledger of
    all memory that counts such pages (None: no row but `kernel_pages`)."""

    site: Location
    by: str
    account: str | None


def plain(symbol: str) -> str:
    """Return a function's name without what the compiler and allocation profiling add."""
    return _DECORATION.sub("", symbol)


def _account(name: str) -> str | None:
    """Return the row that counts what this function of an allocator gets; None if it has none."""
    if _SLAB.fullmatch(name):
        return "slab"
    if _VMALLOC.fullmatch(name):
        return "vmalloc"
    return "percpu" if _PERCPU.fullmatch(name) else None


def _is_allocator(name: str) -> bool:
    return bool(_PAGES.fullmatch(name) or _KVMALLOC.fullmatch(name) or _account(name))


def find_caller(frames: Sequence[Location], unknown: Location) -> Caller:
    """Return the caller of an allocation, from its stack, innermost frame first.

    The outermost of the allocator's functions is the one that was called; one that ends in a call
    of another leaves no frame. `unknown` is the site where no caller is on the stack.
    """
    by, account = "", None
    for location in frames:
        name = plain(location.symbol)
        if location.module is None:
            if _TRACING.match(name):
                continue
            if _is_allocator(name):
                by, account = _MACROS.get(name, name), _account(name) or account
                continue
            if _PAGE_TABLES.fullmatch(name):
                account = account or "page_tables"
        return Caller(location, by, account)
    return Caller(unknown, by, account)
