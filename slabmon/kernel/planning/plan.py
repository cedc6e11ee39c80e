# SPDX-License-Identifier: Apache-2.0
"""From facts and settings to what is compiled, loaded and attached, and what is degraded.

A pure function: `make_plan` asks nothing of the host. A kernel quirk is one entry here and, where
the programs differ, one in bpf/kernel.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from slabmon.base.errors import PermissionDenied, UnsupportedHost
from slabmon.kernel.planning.bulk_hooks import Hook, plan_closers
from slabmon.kernel.planning.cache_lookup import cache_lookup
from slabmon.kernel.probe.facts import OFFSETS, Facts
from slabmon.kernel.settings import TAG_PROBES, TAG_WAYS, Settings
from slabmon.model import FeatureState, State

NOT_ASKED_FOR = "not asked for"  # off by choice: no shortcoming of the host
ALLOCATION_EVENTS = frozenset(
    (
        "kmalloc",
        "kmalloc_node",
        "kmem_cache_alloc",
        "kmem_cache_alloc_node",
        "kfree",
        "kmem_cache_free",
    )
)
WALK, SEED = "walk_devices", "on_net_dev_queue"
READ_WORD, FILL_POOL, LOCATE_VMEMMAP = "read_word", "fill_pool", "locate_vmemmap"
_REQUIRED_OFFSETS = ("OFF_CACHE_NAME", "OFF_CACHE_FLAGS", "OFF_CACHE_SIZE", "OFF_CACHE_OBJECT_SIZE")
_WALK_OFFSETS = tuple(
    name
    for name in OFFSETS
    if name.startswith(
        (
            "OFF_DEVICE",
            "OFF_KOBJECT",
            "OFF_KSET",
            "OFF_BUS",
            "OFF_CLASS",
            "OFF_DRIVER",
            "OFF_SKB",
            "OFF_NET",
            "OFF_DEVRES_ENTRY",
        )
    )
)
_MODULE_OFFSETS = tuple(name for name in OFFSETS if name.startswith("OFF_MODULE"))


@dataclass(frozen=True)
class Plan:
    """`attach` maps raw tracepoints to programs, `hooks` programs to the kernel functions they are
    attached to; `run` are programs started by the daemon."""

    defines: Mapping[str, int]
    attach: Mapping[str, str]
    hooks: Mapping[str, Hook]
    run: tuple[str, ...]
    features: Mapping[str, FeatureState]
    settings: Settings


def check_host(facts: Facts) -> None:
    """Raises the one error that explains why slabmon cannot run here at all."""
    if facts.machine not in ("x86_64", "aarch64"):
        raise UnsupportedHost(
            f"machine type {facts.machine} is not supported; slabmon runs on x86_64 and aarch64"
        )
    if not facts.btf:
        raise UnsupportedHost(
            "this kernel has no BTF (/sys/kernel/btf/vmlinux); "
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distribution kernels are"
        )
    if not facts.root:
        raise PermissionDenied("loading BPF programs needs root; run it as root, or with sudo")
    if facts.lockdown == "confidentiality":
        raise UnsupportedHost(
            "kernel lockdown is in confidentiality mode, which forbids BPF to read kernel memory; "
            "boot with lockdown=integrity or less"
        )
    missing = [
        e
        for e in ("kmalloc", "kfree", "kmem_cache_alloc", "kmem_cache_free")
        if e not in facts.prototypes
    ]
    missing += [name for name in _REQUIRED_OFFSETS if name not in facts.offsets]
    if missing:
        raise UnsupportedHost(
            f"the kernel's BTF does not describe {', '.join(missing)}; "
            "slabmon needs a SLUB kernel from 5.10 on with complete BTF"
        )


def _position(prototype: tuple[str, ...], kind: str) -> int:
    """Argument number of the first parameter of this type; 0 for none (0 is never asked for)."""
    return prototype.index(kind) if kind in prototype else 0


def _arguments(facts: Facts) -> dict[str, int]:
    kmalloc = facts.prototypes["kmalloc"]
    cache_alloc = facts.prototypes["kmem_cache_alloc"]
    requested = _position(kmalloc, "size_t")
    return {
        "ARG_KMALLOC_REQUESTED": requested,
        "ARG_KMALLOC_ALLOCATED": requested + 1,
        "ARG_KMALLOC_GFP": _position(kmalloc, "gfp_t"),
        "ARG_KMALLOC_NODE": _position(kmalloc, "int"),
        "ARG_CACHE_ALLOC_CACHE": _position(cache_alloc, "struct kmem_cache *"),
        "ARG_CACHE_ALLOC_GFP": _position(cache_alloc, "gfp_t"),
        "ARG_CACHE_ALLOC_NODE": _position(cache_alloc, "int"),
        "ARG_CACHE_FREE_CACHE": _position(
            facts.prototypes["kmem_cache_free"], "struct kmem_cache *"
        ),
    }


def _exact_defines(settings: Settings, cgroup: int) -> dict[str, int]:
    exact = settings.exact
    defines = {
        "HAVE_EXACT": int(exact is not None),
        "HAVE_EXACT_CACHE": 0,
        "HAVE_EXACT_SITE": int(exact is not None and bool(exact.site or exact.module)),
        "EXACT_MIN_BYTES": (exact and exact.min_size) or 0,
        "EXACT_MAX_BYTES": (exact and exact.max_size) or 0,
        "EXACT_CGROUP": cgroup,
    }
    if exact and exact.cache:
        name = exact.cache.encode()[:64].ljust(64, b"\0")
        defines["HAVE_EXACT_CACHE"] = 1
        defines["HAVE_EXACT_LARGE"] = int(exact.cache == "kmalloc-large")
        for i in range(8):
            defines[f"EXACT_CACHE_{i}"] = int.from_bytes(name[8 * i : 8 * i + 8], "little")
    return defines


def _places(samples: int, tags: bool) -> dict[str, int]:
    """Where tracked objects are. Tags need atomic operations that return values: 5.12, on arm64
    5.18. Half of the tagged places stay free, so that there is one near where an address hashes
    to."""
    lines = samples * 2 // TAG_WAYS + TAG_PROBES if tags else 0
    return {"HAVE_TAGS": int(tags), "NR_TAG_LINES": lines, "NR_POOL": lines * TAG_WAYS or samples}


def make_plan(
    facts: Facts,
    settings: Settings,
    exact_cgroup: int = 0,
) -> Plan:
    """What to load on this host. `exact_cgroup` is the filter's cgroup as an id."""
    check_host(facts)
    settings = settings.scaled(facts.cpus)
    features: dict[str, FeatureState] = {}
    nesting = 1 if facts.recursion_guard else 3
    lookup, features["cache_of_address"] = cache_lookup(facts)
    resolvable = lookup["HAVE_CACHE_BY_KFUNC"] or lookup["HAVE_CACHE_BY_PAGE"]
    attach = {
        name: f"on_{name}" for name in ("kmalloc", "kmem_cache_alloc", "kfree", "kmem_cache_free")
    }
    for name in attach:
        features[name] = FeatureState(State.ON)
    if "struct kmem_cache *" not in facts.prototypes["kmem_cache_free"]:
        features["kmem_cache_free"] = FeatureState(
            State.DEGRADED,
            "the event does not name the cache, and before 5.16 it comes after the free: where the "
            "page is gone by then the free is counted as cache_unresolved",
        )
    node_events = "kmalloc_node" in facts.prototypes
    if node_events:
        attach |= {n: f"on_{n}" for n in ("kmalloc_node", "kmem_cache_alloc_node")}

    modules = (
        facts.modules
        and facts.kallsyms
        and all(name in facts.offsets for name in _MODULE_OFFSETS)
        and "module_load" in facts.prototypes
    )
    if modules:
        attach |= {n: f"on_{n}" for n in ("module_load", "module_free")}
        features["modules"] = FeatureState(State.ON)
    elif facts.modules:
        features["modules"] = FeatureState(
            State.DEGRADED,
            "module loads cannot be followed: sites of reloaded modules may be confused",
        )
    else:
        features["modules"] = FeatureState(State.ON, "this kernel has no modules")

    walk = all(name in facts.offsets for name in _WALK_OFFSETS)
    named = {"OFF_DEVRES_NAME", "OFF_DEVRES_SIZE"} <= set(facts.offsets)
    devres_log = walk and "devres_log" in facts.prototypes
    if not walk:
        features["device_inventory"] = FeatureState(
            State.OFF, "BTF does not describe struct device"
        )
    elif not named:
        features["device_inventory"] = FeatureState(
            State.DEGRADED,
            "this kernel keeps no names and sizes of resources (before 5.14, without DEBUG_DEVRES):"
            " release functions come from symbols, sizes from the slab objects",
        )
    else:
        features["device_inventory"] = FeatureState(State.ON)
    if devres_log:
        attach["devres_log"] = "on_devres_log"
        features["devres_log"] = FeatureState(State.ON)
    else:
        features["devres_log"] = FeatureState(
            State.OFF, "no devres_log tracepoint (5.14+): each snapshot walks all devices instead"
        )
    if settings.pages:
        attach |= {n: f"on_{n}" for n in ("mm_page_alloc", "mm_page_free")}
    features["pages"] = (
        FeatureState(State.ON) if settings.pages else FeatureState(State.OFF, NOT_ASKED_FOR)
    )
    features["stacks"] = (
        FeatureState(State.ON)
        if settings.stack_frames
        else FeatureState(State.OFF, "stack_frames is 0")
    )
    features["recursion_guard"] = (
        FeatureState(State.ON)
        if facts.recursion_guard
        else FeatureState(State.ON, "none in this kernel: a lane per nesting level instead")
    )
    features["symbols"] = (
        FeatureState(State.ON)
        if facts.kallsyms
        else FeatureState(
            State.OFF, "/proc/kallsyms hides addresses; set kernel.kptr_restrict to 0 or 1"
        )
    )
    features["slabinfo"] = (
        FeatureState(State.ON)
        if facts.slabinfo
        else FeatureState(State.OFF, "/proc/slabinfo cannot be read")
    )
    closers = plan_closers(facts)
    features |= closers.features

    defines = {
        **{
            name: facts.offsets.get(name, 0)
            for name in OFFSETS
            if not name.startswith("OFF_PAGE") and name != "OFF_SLAB_CACHE"
        },
        "HAVE_PAGE_LOOKUP_INLINE": 0,
        **lookup,
        **_arguments(facts),
        **_exact_defines(settings, exact_cgroup),
        **closers.defines,
        "HAVE_CACHE_LOOKUP": resolvable,
        "HAVE_CACHE_BY_SITE": int(facts.site_decides_cache),
        "HAVE_64BIT_CACHE_FLAGS": int(facts.flags_bytes == 8),
        "DEVRES_HEADER_BYTES": facts.sizes.get("devres", 40),
        "HAVE_DEVRES_NAMES": int(named),
        "HAVE_DEVRES_LOG": int(devres_log),
        "HAVE_MODULES": int(modules),
        "HAVE_NODE_EVENTS": int(node_events),
        "HAVE_MANY_NODES": int(facts.nodes > 1),
        "NR_NESTING": nesting,
        "NR_LANES": facts.cpus * nesting,
        "PAGE_SHIFT": facts.page_bytes.bit_length() - 1,
        "PAGE_BYTES": facts.page_bytes,
        "HAVE_PAGES": int(settings.pages),
        "HAVE_STACKS": int(settings.stack_frames > 0),
        "NR_STACKS": settings.stacks,
        # The kernel numbers stacks by its hash table, which has a power of two of places.
        "NR_STACK_IDS": 1 << (settings.stacks - 1).bit_length(),
        "NR_STACK_FRAMES": settings.stack_frames,
        "NR_ALLOC_SLOTS": settings.site_slots or 0,
        "NR_FREE_SLOTS": settings.cache_slots or 0,
        "NR_SAMPLES": settings.samples,
        **_places(settings.samples, facts.recursion_guard),
        "NR_CACHES": settings.caches,
        # four times as many counters as samples: a quarter of them at most is ever set
        "NR_FILTER_BITS": (settings.samples * 4 - 1).bit_length(),
        "NR_EVENT_PAGES": 64,
    }
    run = ((WALK, SEED) if walk else ()) + ((READ_WORD,) if lookup["HAVE_CACHE_BY_PAGE"] else ())
    run += (LOCATE_VMEMMAP,) if lookup.get("HAVE_PAGE_LOOKUP_INLINE") else ()
    run += () if defines["HAVE_TAGS"] else (FILL_POOL,)
    return Plan(defines, attach, closers.hooks, run, features, settings)
