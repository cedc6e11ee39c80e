# SPDX-License-Identifier: Apache-2.0
"""How the programs turn the address of an object into its cache, on which host."""

from __future__ import annotations

from slabmon.kernel.probe.facts import Facts
from slabmon.model import FeatureState, State

_INLINE_OFFSETS = (
    "OFF_PAGE_COMPOUND_HEAD",
    "OFF_PAGE_TYPE",
    "OFF_SLAB_CACHE",
    "OFF_TASK_STACK_AREA",
    "OFF_AREA_PAGES",
    "OFF_TASK_FILES",
    "OFF_TASK_FS",
    "OFF_TASK_MM",
    "OFF_TASK_CRED",
    "OFF_TASK_SIGNAL",
    "OFF_TASK_SIGHAND",
)


def cache_lookup(facts: Facts) -> tuple[dict[str, int], FeatureState]:
    """How an address is turned into its cache."""
    if facts.kfunc_get_cache is not None:
        by_page = _inline_lookup(facts)
        how = "by struct page where that agrees with the kernel's" if by_page else "by the kernel's"
        kfunc = {
            "HAVE_CACHE_BY_KFUNC": 1,
            "HAVE_CACHE_BY_PAGE": 0,
            "KFUNC_GET_KMEM_CACHE": facts.kfunc_get_cache,
        }
        return {**kfunc, **by_page}, FeatureState(State.ON, f"{how} bpf_get_kmem_cache()")
    slab_cache = facts.offsets.get("OFF_SLAB_CACHE", facts.offsets.get("OFF_PAGE_SLAB_CACHE"))
    if (
        (facts.machine == "x86_64" or facts.recursion_guard)  # see find_memory(): from 6.1 on
        and facts.slab_test is not None
        and slab_cache is not None
        and facts.page_symbols
        and (facts.slab_test_in_flags or "OFF_PAGE_TYPE" in facts.offsets)
    ):
        mask, value = facts.slab_test
        return (
            {
                "HAVE_CACHE_BY_KFUNC": 0,
                "HAVE_CACHE_BY_PAGE": 1,
                "PAGE_STRUCT_BYTES": facts.sizes["page"],
                "OFF_PAGE_COMPOUND_HEAD": facts.offsets.get("OFF_PAGE_COMPOUND_HEAD", 8),
                "OFF_PAGE_SLAB_TEST": 0
                if facts.slab_test_in_flags
                else facts.offsets["OFF_PAGE_TYPE"],
                "PAGE_SLAB_MASK": mask,
                "PAGE_SLAB_VALUE": value,
                "OFF_SLAB_CACHE": slab_cache,
            },
            FeatureState(State.ON, "by walking struct page"),
        )
    return (
        {"HAVE_CACHE_BY_KFUNC": 0, "HAVE_CACHE_BY_PAGE": 0},
        FeatureState(
            State.DEGRADED,
            "no bpf_get_kmem_cache() (6.13+), and struct page cannot be walked here (KALLSYMS_ALL, "
            "on arm64 from 6.1 on): kmalloc caches are not told apart and kfree is not attributed",
        ),
    )


def _inline_lookup(facts: Facts) -> dict[str, int]:
    """From an address to its cache by way of struct page, without a call: where memory can be
    read in line (bpf_rdonly_cast()) and a tail page points to its head (up to 7.0)."""
    if (
        facts.machine != "x86_64"
        or not facts.kfunc_cast
        or not facts.number_type
        or facts.slab_test is None
        or facts.slab_test_in_flags
        or not facts.offsets.keys() >= set(_INLINE_OFFSETS)
    ):
        return {}
    mask, value = facts.slab_test
    return {
        "HAVE_PAGE_LOOKUP_INLINE": 1,
        "KFUNC_RDONLY_CAST": facts.kfunc_cast,
        "BTF_WORD_TYPE": facts.number_type,
        "PAGE_STRUCT_BYTES": facts.sizes["page"],
        "OFF_PAGE_COMPOUND_HEAD": facts.offsets["OFF_PAGE_COMPOUND_HEAD"],
        "OFF_PAGE_SLAB_TEST": facts.offsets["OFF_PAGE_TYPE"],
        "PAGE_SLAB_MASK": mask,
        "PAGE_SLAB_VALUE": value,
        "OFF_SLAB_CACHE": facts.offsets["OFF_SLAB_CACHE"],
    }
