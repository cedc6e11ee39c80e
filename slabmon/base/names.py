# SPDX-License-Identifier: Apache-2.0
"""Names that people type: families of kmalloc caches, and the names nearest to a mistyped one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_NEAR = 3
# Kinds of kmalloc caches (enum kmalloc_cache_type, include/linux/slab.h). A size has a unit of
# letters behind it, as in 4k; "large" stands for page-backed kmalloc.
_KMALLOC = re.compile(r"(?:dma-)?kmalloc(?:-(?:cg|rcl|rnd-\d+|part-\d+))?-(\w+)")
_NUMBER = re.compile(r"#\d+$")


def kernel_name(cache: str) -> str:
    """Return the name of a cache in the kernel: a second cache of one name is shown as name#2."""
    return _NUMBER.sub("", cache)


def is_kmalloc(cache: str) -> bool:
    """Return whether a cache is one of kmalloc(), which can hold anything."""
    return cache.startswith(("kmalloc-", "dma-kmalloc-"))


@lru_cache(maxsize=1 << 12)
def cache_family(cache: str) -> str:
    """Return the name that all kinds of a kmalloc cache share, such as kmalloc-64 for
    kmalloc-cg-64, kmalloc-rnd-07-64 and dma-kmalloc-64; of other caches, their kernel name."""
    name = kernel_name(cache)
    match = _KMALLOC.fullmatch(name)
    return f"kmalloc-{match[1]}" if match else name


def near_names(name: str, names: Iterable[str], count: int = _NEAR) -> list[str]:
    """Return the names most like this one, nearest first, at most `count`."""
    import difflib  # only for errors

    by_folded: dict[str, str] = {}
    for known in names:
        by_folded.setdefault(known.casefold(), known)
    wanted = name.casefold()
    near = difflib.get_close_matches(wanted, by_folded, count)
    if len(wanted) >= 3:
        longer = sorted((n for n in by_folded if wanted in n), key=lambda n: (len(n), n))
        near += [each for each in longer if each not in near]
    return [by_folded[each] for each in near[:count]]


def with_near_names(problem: str, name: str, names: Iterable[str], otherwise: str = "") -> str:
    """Return a problem with the near names behind it or, if there are none, what to do."""
    near = near_names(name, names)
    if near:
        return f"{problem}; near names: {', '.join(near)}"
    return f"{problem}; {otherwise}" if otherwise else problem
