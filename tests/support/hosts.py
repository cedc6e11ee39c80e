# SPDX-License-Identifier: Apache-2.0
"""Facts of hosts that can run slabmon, one for each form that the tracepoints had."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from slabmon.kernel.probe.btf import Function
from slabmon.kernel.probe.facts import OFFSETS, Facts

KMALLOC = ("unsigned long", "void *", "size_t", "size_t", "gfp_t")
WITH_CACHE = ("unsigned long", "void *", "struct kmem_cache *", "size_t", "size_t", "gfp_t")
COMMON = {
    "kfree": ("unsigned long", "void *"),
    "mm_page_alloc": ("struct page *", "unsigned int", "gfp_t", "int"),
    "mm_page_free": ("struct page *", "unsigned int"),
    "percpu_alloc_percpu_fail": ("bool", "bool", "size_t", "size_t"),
    "percpu_free_percpu": ("void *", "int", "void *"),
    "module_load": ("struct module *",),
    "module_free": ("struct module *",),
    "net_dev_queue": ("struct sk_buff *",),
    "sched_process_fork": ("struct task_struct *", "struct task_struct *"),
}
# size, align, base_addr, off, ptr
PERCPU = ("bool", "bool", "size_t", "size_t", "void *", "int", "void *")
DEVRES = {"devres_log": ("struct device *", "char *", "void *", "char *", "size_t")}


_ADDRESSED = ("struct device *", "void *", "dma_addr_t", "size_t", "enum dma_data_direction")
_SCATTERED = ("struct device *", "struct sg_table *", "size_t", "enum dma_data_direction")
_FLAGS = ("gfp_t", "long unsigned int")
DMA = {
    "dma_alloc": (*_ADDRESSED, *_FLAGS),
    "dma_free": (*_ADDRESSED, "long unsigned int"),
    "dma_alloc_pages": (*_ADDRESSED, *_FLAGS),
    "dma_free_pages": (*_ADDRESSED, "long unsigned int"),
    "dma_alloc_sgt": (*_SCATTERED, *_FLAGS),
    "dma_alloc_sgt_err": (*_ADDRESSED, *_FLAGS),
    "dma_free_sgt": _SCATTERED,
}


def _nodes(kmalloc: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {
        "kmalloc": kmalloc,
        "kmem_cache_alloc": kmalloc,
        "kmalloc_node": (*kmalloc, "int"),
        "kmem_cache_alloc_node": (*kmalloc, "int"),
    }


# Arguments after the probe's own data, as BTF spells them.
PROTOTYPES: dict[str, dict[str, tuple[str, ...]]] = {
    "5.10": {
        **COMMON,
        **_nodes(KMALLOC),
        "kmem_cache_free": ("unsigned long", "void *"),
        "percpu_alloc_percpu": PERCPU,
    },
    "6.0": {
        **COMMON,
        **DEVRES,
        **_nodes(WITH_CACHE),
        "kmem_cache_free": ("unsigned long", "void *", "char *"),
        "percpu_alloc_percpu": ("unsigned long", *PERCPU, "size_t", "gfp_t"),
    },
    "6.1": {
        **COMMON,
        **DEVRES,
        "kmalloc": (*KMALLOC, "int"),
        "kmem_cache_alloc": (
            "unsigned long",
            "void *",
            "struct kmem_cache *",
            "gfp_t",
            "int",
        ),
        "kmem_cache_free": ("unsigned long", "void *", "struct kmem_cache *"),
        "percpu_alloc_percpu": ("unsigned long", *PERCPU, "size_t", "gfp_t"),
    },
}
PROTOTYPES["6.12"] = PROTOTYPES["6.18"] = PROTOTYPES["7.3"] = {**PROTOTYPES["6.1"], **DMA}
KERNELS = tuple(PROTOTYPES)

_CACHE = "struct kmem_cache *"
_PROBE = {
    "really_probe": Function(104, "int", ("struct device *", "struct device_driver *")),
}
_FREE_BULK = {"kmem_cache_free_bulk": Function(102, "void", (_CACHE, "size_t", "void * *"))}


def _functions(alloc: str, returns: str, *sheaf: str) -> dict[str, Function]:
    """Return bulk functions; `sheaf` are parameters of __kfree_rcu_sheaf() if it exists."""
    parameters = (_CACHE, "gfp_t", "size_t", "void * *")
    functions = {alloc: Function(101, returns, parameters), **_FREE_BULK, **_PROBE}
    return functions | ({"__kfree_rcu_sheaf": Function(103, "bool", sheaf)} if sheaf else {})


# Functions that have no event, as BTF describes them.
FUNCTIONS: dict[str, dict[str, Function]] = {
    **dict.fromkeys(("5.10", "6.0", "6.1"), _functions("kmem_cache_alloc_bulk", "int")),
    "6.12": _functions("kmem_cache_alloc_bulk_noprof", "int"),
    "6.18": _functions("kmem_cache_alloc_bulk_noprof", "int", _CACHE, "void *"),
    "7.3": _functions("kmem_cache_alloc_bulk_noprof", "bool", _CACHE, "void *", "bool"),
}

_BEFORE_61 = {
    name: 8 * number
    for number, name in enumerate(OFFSETS, 1)
    if name != "OFF_TASK_SOFTIRQ_COUNT"  # CONFIG_PREEMPT_RT
}
_OFFSETS = {n: offset for n, offset in _BEFORE_61.items() if n != "OFF_CGROUP_ANCESTOR_IDS"}
del _BEFORE_61["OFF_CGROUP_ANCESTORS"]
_PER_CPU = {"runqueues": 4096, "__preempt_count": 64}
PER_CPU = {
    "6.12": {"runqueues": 4096, "pcpu_hot": 64},
    "7.3": {**_PER_CPU, "local_interrupt_disable_state": 72},
}
_BEFORE_514 = {
    name: offset
    for name, offset in _BEFORE_61.items()
    if name not in ("OFF_DEVRES_NAME", "OFF_DEVRES_SIZE")
}

_PLAIN = Facts(
    release="6.18.0",
    machine="x86_64",
    boot_id="7f0c0000-0000-4000-8000-000000000001",
    cpus=4,
    nodes=1,
    page_bytes=4096,
    root=True,
    btf=True,
    prototypes=PROTOTYPES["6.18"],
    functions=FUNCTIONS["6.18"],
    offsets=_OFFSETS,
    sizes={"page": 64, "devres": 40},
    per_cpu=_PER_CPU,
    kfunc_get_cache=98_765,
    recursion_guard=True,
    slab_test=(0xFF000000, 0xF5000000),
    kallsyms=True,
    page_symbols=True,
    modules=True,
    slabinfo=True,
    lockdown="none",
)


def facts(kernel: str = "6.18", **changes: Any) -> Facts:
    """Return a capable host with this kernel, with some facts changed."""
    old = {"5.10": (1 << 9, 1 << 9), "6.0": (1 << 9, 1 << 9), "6.1": (1 << 9, 1 << 9)}
    plain = replace(
        _PLAIN,
        release=f"{kernel}.0",
        prototypes=PROTOTYPES[kernel],
        functions=FUNCTIONS[kernel],
        per_cpu=PER_CPU.get(kernel, _PER_CPU),
        offsets={"5.10": _BEFORE_514, "6.0": _BEFORE_61}.get(kernel, _OFFSETS),
        kfunc_get_cache=98_765 if kernel in ("6.18", "7.3") else None,
        recursion_guard=kernel not in ("5.10", "6.0"),
        slab_test=old.get(kernel, _PLAIN.slab_test),
        slab_test_in_flags=kernel in old,
    )
    return replace(plain, **changes)


INLINE_OFFSETS = {
    "OFF_PAGE_COMPOUND_HEAD": 8,
    "OFF_PAGE_TYPE": 48,
    "OFF_SLAB_CACHE": 24,
    "OFF_TASK_STACK_AREA": 16,
    "OFF_AREA_PAGES": 32,
    "OFF_TASK_FILES": 64,
    "OFF_TASK_FS": 72,
    "OFF_TASK_MM": 80,
    "OFF_TASK_CRED": 88,
    "OFF_TASK_SIGNAL": 96,
    "OFF_TASK_SIGHAND": 104,
}


def inline_lookup() -> Facts:
    """Return a host of 6.18 where struct pages can be read in line."""
    offsets = {**facts().offsets, **INLINE_OFFSETS}
    return facts(
        kfunc_cast=777, number_type=55, slab_test=(0xFF000000, 0xF5000000), offsets=offsets
    )


def without(mapping: Any, *names: str) -> dict[str, Any]:
    """Return a copy without these keys."""
    return {key: value for key, value in mapping.items() if key not in names}
