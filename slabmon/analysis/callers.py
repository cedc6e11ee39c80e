# SPDX-License-Identifier: Apache-2.0
"""The caller of an allocation: the first function on its stack that is no helper.

A call site in `__alloc_skb`, `kmemdup` or `alloc_inode` says what was allocated, not why. Helpers
are functions that allocate whatever their callers ask for; out-of-line copies of inline wrappers
(`kmalloc_array_noprof.constprop.0`) are among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slabmon.analysis.sampling import probability
from slabmon.analysis.shares import main_parts, with_shares
from slabmon.base.arrays import F64, I64
from slabmon.model import Site, Snapshot, Tracked

# The call site is among this many innermost frames; those before it are the allocator's, or of the
# tracepoint's programs.
_INNER_FRAMES = 8
# Names without underscores in front, suffixes of the compiler and _noprof behind.
_HELPERS = (
    # mm/slub.c, mm/slab_common.c, mm/util.c, include/linux/slab.h, mm/mempool.c
    r"k[vmzc]\w*alloc\w*",
    r"krealloc\w*|kfree_rcu\w*|v?memdup\w*|kv?memdup\w*|kstrn?dup\w*|kv?asprintf\w*",
    r"kmem_cache_\w*alloc\w*|kmem_cache_zalloc|kmem_cache_dup\w*|kmem_buckets_alloc\w*",
    r"mempool_\w+|do_kmalloc\w*|do_kmem_cache\w*|slab_alloc\w*|slab_post_alloc\w*|alloc_hooks\w*",
    r"alloc_slab_obj_exts|alloc_empty_sheaf|memcg_\w*alloc\w*",
    # drivers/base/devres.c, drivers/gpu/drm/drm_managed.c
    r"dev(m|res)_\w*|alloc_dr|drmm_k\w+|pcim_\w*alloc\w*",
    # net/core/skbuff.c, net/core/sock.c, net/core/request_sock.c
    r"(alloc|netdev_alloc|napi_alloc|build|slab_build|napi_build)_skb\w*",
    r"kmalloc_reserve|skb_(clone|copy|copy_expand|ext_add|realloc_headroom|unshare)|skb_ext_alloc",
    r"pskb_(copy\w*|expand_head)|sock_(alloc_send_p?skb|wmalloc|omalloc|kmalloc|kmemdup)",
    r"sk_prot_alloc|sk_alloc|sk_clone\w*|reqsk_alloc\w*|dst_alloc",
    # fs/inode.c, fs/dcache.c, fs/file_table.c, fs/seq_file.c, fs/kernfs/
    r"(\w+_)?alloc_inode\w*|new_inode\w*|iget5?_locked|d_alloc\w*|alloc_(empty_)?(backing_)?file\w*",
    r"seq_open\w*|single_open\w*|simple_xattr_alloc|kernfs_new_node|kernfs_create_\w+",
    # lib/: xarray.c, radix-tree.c, idr.c, maple_tree.c, scatterlist.c, kobject.c, bitmap.c
    r"xas_\w+|xa_\w+|radix_tree_\w+|id[ra]_\w+|mas_\w+|mtree_\w+|sg_\w*alloc\w*",
    r"bpf_map_\w*alloc\w*|kobject_(create|set_name\w*)\w*|bitmap_\w*alloc\w*|bucket_table_alloc",
    # block/bio.c
    r"bio_(alloc|kmalloc)\w*|bvec_alloc|bio_init_clone",
)
_HELPER = re.compile("|".join(_HELPERS))
# rust/kernel/alloc/, rust/kernel/sync/arc.rs, and the standard library's allocating types
_RUST_HELPER = re.compile(r"\b(alloc|core)::|kernel::(alloc|sync::arc|types|init)::|pin_init::")
# Tracepoints, and functions that run their programs.
_TRACING = re.compile(r"_*traceiter_|trace_km|bpf_trace_run|bpf_trampoline|bpf_prog_[0-9a-f]{16}")
_DECORATION = re.compile(r"(_noprof)?(\.(constprop|isra|part|cold|llvm)(\.\d+)*)*(#\d+)?$")


def function_of(frame: str) -> str:
    """Return the function of a frame, which may have a module behind it in brackets."""
    return frame.partition(" [")[0]


def inner_functions(frames: Sequence[str]) -> list[str]:
    """Return the functions that a call site's is among, innermost first."""
    return [function_of(frame) for frame in frames[:_INNER_FRAMES]]


@lru_cache(maxsize=1 << 15)
def is_helper(function: str) -> bool:
    """Whether a function allocates on behalf of its callers, or belongs to tracing."""
    if "::" in function:
        return _RUST_HELPER.search(function) is not None
    plain = _DECORATION.sub("", function).lstrip("_")
    return bool(_HELPER.fullmatch(plain) or _TRACING.match(function))


def caller_of(frames: Iterable[str]) -> str | None:
    """Return the first frame that is no helper, innermost first; None if there is none."""
    for frame in frames:
        if not is_helper(function_of(frame)):
            return frame
    return None


def _site_label(site: Site) -> str:
    return f"{site.symbol} [{site.module}]" if site.module else site.symbol


def callers(snapshot: Snapshot, tracked: Tracked) -> tuple[I64, list[str]]:
    """Return the caller of each tracked object, as indices (objects,) of the labels behind.

    Where the stack is not known, it is the function of the call site.
    """
    stacks, stack_of = np.unique(tracked.stack, return_inverse=True)
    by_stack = [caller_of(tracked.stacks.get(stack, ())) for stack in stacks.tolist()]
    labels = [caller or "" for caller in by_stack] + [_site_label(s) for s in snapshot.sites]
    known = np.array([caller is not None for caller in by_stack] or [False], bool)
    positions = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    number = np.array([positions[label] for label in labels] or [0], np.int64)
    if not len(stacks):
        return np.zeros(0, np.int64), list(positions)
    place = np.where(known[stack_of], stack_of, len(stacks) + tracked.site)
    return number[place], list(positions)


def main_callers(snapshot: Snapshot, members: I64, rows: int) -> list[str | None]:
    """Return the caller that holds most of each row's live memory, with its share if it is not all;
    None for rows without tracked objects. `members` is the row of each object (negative: none)."""
    caller, labels = callers(snapshot, snapshot.tracked)
    return main_labels(snapshot.tracked, caller, labels, members, rows)


def main_labels(
    tracked: Tracked, column: NDArray[Any], labels: Sequence[str], members: I64, rows: int
) -> list[str | None]:
    """Return the label of most of each row's live memory, as main_callers() does. `column`
    (objects,) indexes the labels."""
    inside = members >= 0
    of_row, weight = members[inside], represented(tracked)[inside]
    main, size = main_parts(of_row, column[inside], weight, rows)
    total = np.asarray(np.bincount(of_row, weight, rows), float)
    return with_shares(labels, main, size, total)


def largest_callers(snapshot: Snapshot, rows: Sequence[int] | I64, count: int) -> tuple[str, ...]:
    """Return the callers that hold most of these tracked objects' memory, with their shares."""
    tracked = snapshot.tracked
    caller, labels = callers(snapshot, tracked)
    positions = np.asarray(rows, np.int64)
    size = np.bincount(caller[positions], represented(tracked)[positions], len(labels))
    total = size.sum()
    order = np.argsort(-size, kind="stable")[:count].tolist()
    return tuple(f"{labels[i]} {size[i] / total:.0%}" for i in order if size[i] > 0)


def represented(tracked: Tracked) -> F64:
    """Return the bytes that each tracked object stands for: (objects,)."""
    size = tracked.bytes.astype(float)
    return np.asarray(size / probability(size, tracked.interval))
