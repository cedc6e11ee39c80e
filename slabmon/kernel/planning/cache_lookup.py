# SPDX-License-Identifier: Apache-2.0
"""How the programs turn the address of an object into its cache, by host."""

from __future__ import annotations

from slabmon.kernel.planning.part import Part
from slabmon.kernel.probe.facts import HIDDEN_SYMBOLS, Facts
from slabmon.kernel.programs import LOCATE_VMEMMAP, READ_WORD
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


def plan_cache_lookup(facts: Facts) -> Part:
    """Choose bpf_get_kmem_cache() (6.13+), else struct pages, else no lookup."""
    if facts.kfunc_get_cache is not None:
        return _by_kfunc(facts, facts.kfunc_get_cache)
    by_page = _page_defines(facts)
    if by_page:
        return Part(
            features={"cache_of_address": FeatureState(State.ON, "by walking struct page")},
            defines={
                "HAVE_CACHE_BY_KFUNC": 0,
                "HAVE_CACHE_BY_PAGE": 1,
                "HAVE_PAGE_LOOKUP_INLINE": 0,
                "HAVE_CACHE_LOOKUP": 1,
                **by_page,
            },
            run=(READ_WORD,),
        )
    return Part(
        features={
            "cache_of_address": FeatureState(
                State.DEGRADED,
                "no bpf_get_kmem_cache() (6.13+), and struct page cannot be walked here "
                f"({_lacking(facts)}): kmalloc caches are not distinguished and kfree is not "
                "attributed",
            )
        },
        defines={
            "HAVE_CACHE_BY_KFUNC": 0,
            "HAVE_CACHE_BY_PAGE": 0,
            "HAVE_PAGE_LOOKUP_INLINE": 0,
            "HAVE_CACHE_LOOKUP": 0,
        },
    )


def _lacking(facts: Facts) -> str:
    return "KALLSYMS_ALL, on arm64 from 6.1 on" if facts.kallsyms else HIDDEN_SYMBOLS


def _by_kfunc(facts: Facts, kfunc: int) -> Part:
    inline = _inline_defines(facts)
    how = "by struct page where that agrees with the kernel's" if inline else "by the kernel's"
    return Part(
        features={"cache_of_address": FeatureState(State.ON, f"{how} bpf_get_kmem_cache()")},
        defines={
            "HAVE_CACHE_BY_KFUNC": 1,
            "HAVE_CACHE_BY_PAGE": 0,
            "KFUNC_GET_KMEM_CACHE": kfunc,
            "HAVE_PAGE_LOOKUP_INLINE": int(bool(inline)),
            "HAVE_CACHE_LOOKUP": 1,
            **inline,
        },
        run=(LOCATE_VMEMMAP,) if inline else (),
    )


def _page_defines(facts: Facts) -> dict[str, int]:
    """Return the macros for a walk from an address to its struct page and cache, or {}."""
    slab_cache = facts.offsets.get("OFF_SLAB_CACHE", facts.offsets.get("OFF_PAGE_SLAB_CACHE"))
    if (
        not (facts.machine == "x86_64" or facts.recursion_guard)  # arm64: find_memory(), 6.1+
        or facts.slab_test is None
        or slab_cache is None
        or not facts.page_symbols
        or not (facts.slab_test_in_flags or "OFF_PAGE_TYPE" in facts.offsets)
    ):
        return {}
    mask, value = facts.slab_test
    return {
        "PAGE_STRUCT_BYTES": facts.sizes["page"],
        "OFF_PAGE_COMPOUND_HEAD": facts.offsets.get("OFF_PAGE_COMPOUND_HEAD", 8),
        "OFF_PAGE_SLAB_TEST": 0 if facts.slab_test_in_flags else facts.offsets["OFF_PAGE_TYPE"],
        "PAGE_SLAB_MASK": mask,
        "PAGE_SLAB_VALUE": value,
        "OFF_SLAB_CACHE": slab_cache,
    }


def _inline_defines(facts: Facts) -> dict[str, int]:
    """Return the macros for a lookup by struct page without a call, or {}.

    It needs memory reads in line (bpf_rdonly_cast()) and tail pages that point to their head (up
    to 7.0).
    """
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
        "KFUNC_RDONLY_CAST": facts.kfunc_cast,
        "BTF_WORD_TYPE": facts.number_type,
        "PAGE_STRUCT_BYTES": facts.sizes["page"],
        "OFF_PAGE_COMPOUND_HEAD": facts.offsets["OFF_PAGE_COMPOUND_HEAD"],
        "OFF_PAGE_SLAB_TEST": facts.offsets["OFF_PAGE_TYPE"],
        "PAGE_SLAB_MASK": mask,
        "PAGE_SLAB_VALUE": value,
        "OFF_SLAB_CACHE": facts.offsets["OFF_SLAB_CACHE"],
    }
