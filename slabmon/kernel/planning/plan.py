# SPDX-License-Identifier: Apache-2.0
"""From facts and settings to what is compiled, loaded and attached, and what is degraded.

make_plan() is a pure function: it asks nothing of the host. Each capability is planned by one
function that returns its Part. A kernel quirk is one condition in it and, where the programs
differ, one in bpf/kernel.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from slabmon.base.errors import NeedsRoot, UnsupportedHost
from slabmon.kernel.bpf.names import name_hash
from slabmon.kernel.exact_target import EVERYTHING, Target
from slabmon.kernel.planning.bulk_hooks import plan_bulk_hooks
from slabmon.kernel.planning.cache_lookup import plan_cache_lookup
from slabmon.kernel.planning.contexts import plan_contexts
from slabmon.kernel.planning.dma import plan_dma
from slabmon.kernel.planning.driver_probes import plan_driver_probes
from slabmon.kernel.planning.part import Hook, Part
from slabmon.kernel.probe.cgroups import ANY_LEVEL
from slabmon.kernel.probe.facts import HIDDEN_SYMBOLS, OFFSETS, Facts
from slabmon.kernel.probe.gfp import STABLE_BITS
from slabmon.kernel.probe.slabinfo import SLAB_FLAGS
from slabmon.kernel.programs import FILL_POOL, PROGRAMS, SEED, WALK, Direction, ProgramSpec
from slabmon.kernel.settings import TAG_PROBES, TAG_WAYS, Settings, When
from slabmon.model import LARGE_CACHE, FeatureState, State

NOT_ASKED_FOR = "not asked for"  # off by choice: not a shortcoming of the host
# Programs nested on one CPU, on kernels that let a program run inside itself.
_NESTING_LEVELS = 3
# Cgroup levels that are tried where that of the filter's cgroup is not known.
_CGROUP_LEVELS = 16
# Call paths of pages and per-CPU memory that are told apart. Blocks of each that are tracked at a
# time: this share of the number of slab objects.
_CALL_PATHS = 4096
_BLOCK_SHARE = 4
# Pages of the ring buffer of stack copies: room for 256 of 2 KiB between two snapshots.
_STACK_COPY_PAGES = 128
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
# Those of which a part decides whether they are used.
_PLANNED_OFFSETS = {
    "OFF_CSS_SET_SUBSYS",
    "OFF_SLAB_CACHE",
    "OFF_BLOCK_DEVICE_DEV",
    "OFF_TASK_CFS_RQ",
    "OFF_CFS_RQ_RQ",
    "OFF_TASK_PREEMPT_COUNT",
    "OFF_TASK_SOFTIRQ_COUNT",
    "OFF_DMA_MEM",
    "OFF_DMA_MEM_BASE",
    "OFF_DMA_MEM_PAGES",
}
_MODULE_OFFSETS = tuple(name for name in OFFSETS if name.startswith("OFF_MODULE"))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Macros, attachments and features for one host.

    `attach` maps raw tracepoints to programs, `hooks` programs to the kernel functions they are
    attached to. `run` are programs the daemon runs itself.
    """

    defines: Mapping[str, int]
    attach: Mapping[str, str]
    hooks: Mapping[str, Hook]
    run: tuple[str, ...]
    features: Mapping[str, FeatureState]
    settings: Settings

    @property
    def attached(self) -> tuple[ProgramSpec, ...]:
        """The programs that are attached, in the order of the table."""
        names = {*self.attach.values(), *self.hooks}
        return tuple(
            replace(spec, lanes="") if spec.pages and not self.defines["HAVE_PAGES"] else spec
            for spec in PROGRAMS
            if spec.name in names
        )

    def lanes(self, direction: Direction, *, pages: bool = False) -> tuple[str, ...]:
        """Return the maps of lanes in which attached programs count events of this direction."""
        maps = (
            f"{spec.lanes}_lanes"
            for spec in self.attached
            if spec.direction == direction and spec.pages == pages and spec.lanes
        )
        return tuple(dict.fromkeys(maps))


def make_plan(facts: Facts, settings: Settings, target: Target = EVERYTHING) -> Plan:
    """Return what to load on this host. `target` is what the filter of exact mode selects.

    Raises UnsupportedHost or NeedsRoot if slabmon cannot run there at all.
    """
    check_host(facts)
    settings = settings.scaled(facts.cpus)
    parts = (
        _tables(facts, settings),
        plan_cache_lookup(facts),
        _allocations(facts),
        _modules(facts),
        _devices(facts),
        _pages(facts, settings),
        _percpu(facts, settings),
        plan_dma(facts, settings),
        _stacks(settings),
        plan_contexts(facts),
        _nesting(facts),
        _symbols(facts),
        _slabinfo(facts, settings),
        _cgroups(facts),
        plan_bulk_hooks(facts),
        plan_driver_probes(facts),
        _stack_copies(facts, settings),
        _exact(settings, target),
        _process_tree(facts, settings),
    )
    features: dict[str, FeatureState] = {}
    defines: dict[str, int] = {"NR_PATHS": _CALL_PATHS}
    hooks: dict[str, Hook] = {}
    unused: set[str] = set()
    run: tuple[str, ...] = ()
    for part in parts:
        features |= part.features
        defines |= part.defines
        hooks |= part.hooks
        unused |= part.unused
        run += part.run
    tracepoints = [spec for spec in PROGRAMS if spec.event and not spec.on_demand]
    for spec in tracepoints:
        # One that no part decides is on where it exists.
        if spec.feature not in features and spec.feature not in unused:
            features[spec.feature] = _tracepoint(facts, spec)
    defines["HAVE_BLOCKS"] = defines["HAVE_PAGE_SITES"] | defines["HAVE_PERCPU"]
    unused |= {name for name, feature in features.items() if feature.state == State.OFF}
    attach = {
        spec.event: spec.name
        for spec in tracepoints
        if spec.event in facts.prototypes and spec.feature not in unused
    }
    return Plan(
        defines=defines, attach=attach, hooks=hooks, run=run, features=features, settings=settings
    )


def check_host(facts: Facts) -> None:
    """Raise the one error that explains why slabmon cannot run here at all."""
    if facts.machine not in ("x86_64", "aarch64"):
        raise UnsupportedHost(
            f"machine type {facts.machine} is not supported; slabmon runs on x86_64 and aarch64"
        )
    if not facts.btf:
        raise UnsupportedHost(
            "this kernel has no BTF (/sys/kernel/btf/vmlinux); "
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distribution kernels are; in a "
            "container, mount the host's /sys"
        )
    if not facts.cpus:
        raise UnsupportedHost(
            "/sys/devices/system/cpu/possible: cannot be read, and says how many CPUs to count on; "
            "in a container, mount the host's /sys"
        )
    if not facts.root:
        raise NeedsRoot("loading BPF programs needs root; run it as root, or with sudo")
    if facts.lockdown == "confidentiality":
        raise UnsupportedHost(
            "kernel lockdown is in confidentiality mode, which forbids BPF to read kernel memory; "
            "boot with lockdown=integrity or less"
        )
    missing = [
        spec.event for spec in PROGRAMS if spec.required and spec.event not in facts.prototypes
    ]
    missing += [name for name in _REQUIRED_OFFSETS if name not in facts.offsets]
    if missing:
        raise UnsupportedHost(
            f"the kernel's BTF does not describe {', '.join(missing)}; "
            "slabmon needs a SLUB kernel from 5.10 on with complete BTF"
        )


def _tracepoint(facts: Facts, spec: ProgramSpec) -> FeatureState:
    if spec.event in facts.prototypes:
        return FeatureState(State.ON)
    return FeatureState(State.OFF, f"this kernel has no tracepoint {spec.event}")


def _position(prototype: tuple[str, ...], kind: str) -> int:
    """Return the number of the first argument of this type, or 0 (the probe's own data)."""
    return prototype.index(kind) if kind in prototype else 0


def _allocations(facts: Facts) -> Part:
    """Plan the events of slab objects, whose arguments moved over time."""
    kmalloc = facts.prototypes["kmalloc"]
    cache_alloc = facts.prototypes["kmem_cache_alloc"]
    cache_free = facts.prototypes["kmem_cache_free"]
    requested = _position(kmalloc, "size_t")
    features = {
        name: FeatureState(State.ON)
        for name in ("kmalloc", "kmem_cache_alloc", "kfree", "kmem_cache_free")
    }
    if "struct kmem_cache *" not in cache_free:
        features["kmem_cache_free"] = FeatureState(
            State.DEGRADED,
            "the event does not name the cache, and before 5.16 it comes after the free: if the "
            "page is gone by then the free is counted as cache_unresolved",
        )
    return Part(
        features=features,
        defines={
            "ARG_KMALLOC_REQUESTED": requested,
            "ARG_KMALLOC_ALLOCATED": requested + 1,
            "ARG_KMALLOC_GFP": _position(kmalloc, "gfp_t"),
            "ARG_KMALLOC_NODE": _position(kmalloc, "int"),
            "ARG_CACHE_ALLOC_CACHE": _position(cache_alloc, "struct kmem_cache *"),
            "ARG_CACHE_ALLOC_GFP": _position(cache_alloc, "gfp_t"),
            "ARG_CACHE_ALLOC_NODE": _position(cache_alloc, "int"),
            "ARG_CACHE_FREE_CACHE": _position(cache_free, "struct kmem_cache *"),
            "HAVE_NODE_EVENTS": int("kmalloc_node" in facts.prototypes),
            "HAVE_MANY_NODES": int(facts.nodes > 1),
            "HAVE_CACHE_BY_SITE": int(facts.site_decides_cache),
            "HAVE_64BIT_CACHE_FLAGS": int(facts.flags_bytes == 8),
        },
    )


def _modules(facts: Facts) -> Part:
    """Plan to follow the loads and unloads of modules."""
    followed = (
        facts.modules
        and facts.kallsyms
        and all(name in facts.offsets for name in _MODULE_OFFSETS)
        and "module_load" in facts.prototypes
    )
    if followed:
        feature = FeatureState(State.ON)
    elif facts.modules:
        feature = FeatureState(
            State.DEGRADED,
            "module loads cannot be followed: sites of reloaded modules may be confused"
            + ("" if facts.kallsyms else f" ({HIDDEN_SYMBOLS})"),
        )
    else:
        feature = FeatureState(State.ON, "this kernel has no modules")
    return Part(
        features={"modules": feature},
        defines={"HAVE_MODULES": int(followed)},
        unused=frozenset() if followed else frozenset({"modules"}),
    )


def _devices(facts: Facts) -> Part:
    """Plan the walk over devices and the events of their resources."""
    walk = all(name in facts.offsets for name in _WALK_OFFSETS)
    named = {"OFF_DEVRES_NAME", "OFF_DEVRES_SIZE"} <= set(facts.offsets)
    events = walk and "devres_log" in facts.prototypes
    if not walk:
        inventory = FeatureState(State.OFF, "BTF does not describe struct device")
    elif not named:
        inventory = FeatureState(
            State.DEGRADED,
            "this kernel keeps no names and sizes of resources (before 5.14, without DEBUG_DEVRES):"
            " release functions come from symbols, sizes from the slab objects"
            + ("" if facts.kallsyms else f" ({HIDDEN_SYMBOLS})"),
        )
    else:
        inventory = FeatureState(State.ON)
    log = FeatureState(State.ON)
    if not events:
        log = FeatureState(
            State.OFF, "no devres_log tracepoint (5.14+): each snapshot walks all devices instead"
        )
    return Part(
        features={"device_inventory": inventory, "devres_log": log},
        defines={
            "DEVRES_HEADER_BYTES": facts.sizes.get("devres", 40),
            "HAVE_DEVRES_NAMES": int(named),
            "HAVE_DEVRES_LOG": int(events),
        },
        run=(WALK, SEED) if walk else (),
    )


def _pages(facts: Facts, settings: Settings) -> Part:
    """Plan the events of the page allocator, which are those of all user memory too.

    Pages of the kernel are tracked by call path wherever the events are attached; they are also
    counted by order and GFP class if settings.pages asks for it.
    """
    exact = settings.exact
    selects = exact is None or not (exact.cache or exact.family or exact.process_tree)
    by_suspicion = settings.when == When.AUTO and not settings.pages
    if settings.pages or (exact and selects):
        feature = FeatureState(State.ON)
    elif by_suspicion:
        feature = FeatureState(State.ON, "while memory that no counter names grows")
    else:
        feature = FeatureState(State.OFF, NOT_ASKED_FOR)
    bits = {**STABLE_BITS, **facts.gfp_bits}
    page_struct = facts.sizes["page"]
    blocks = settings.samples // _BLOCK_SHARE
    return Part(
        features={"pages": feature},
        defines={
            "HAVE_PAGES": int(settings.pages),
            "HAVE_PAGE_SITES": int(feature.state == State.ON),
            "EXACT_PAGES": int(exact is not None and selects),
            "NR_PAGE_BLOCKS": blocks,
            # Four times as many counters as blocks, as in the filter of slab objects.
            "NR_BLOCK_FILTER_BITS": (blocks * 4 - 1).bit_length(),
            "PAGE_STRUCT_BYTES": page_struct,
            "PAGE_STRUCT_ALIGNED": int(page_struct & (page_struct - 1) == 0),
            "GFP_MOVABLE": 1 << bits["MOVABLE"],
            "GFP_COMP": 1 << bits["COMP"],
        },
    )


def _percpu(facts: Facts, settings: Settings) -> Part:
    """Plan the events of the per-CPU allocator.

    f67bed134a05 "percpu: improve percpu_alloc_percpu event trace" (5.19) put a call site before its
    arguments.
    """
    feature = FeatureState(State.ON)
    alloc = facts.prototypes.get("percpu_alloc_percpu", ())
    if "size_t" not in alloc or "percpu_free_percpu" not in facts.prototypes:
        feature = FeatureState(State.OFF, "this kernel has no tracepoint percpu_alloc_percpu")
    size = _position(alloc, "size_t")
    return Part(
        features={"percpu": feature},
        defines={
            "HAVE_PERCPU": int(feature.state == State.ON),
            "NR_PERCPU_BLOCKS": settings.samples // _BLOCK_SHARE,
            # size, align, base_addr, off, ptr
            "ARG_PERCPU_SIZE": size,
            "ARG_PERCPU_POINTER": size + 4,
        },
    )


def _stacks(settings: Settings) -> Part:
    feature = FeatureState(State.ON)
    if not settings.stack_frames:
        feature = FeatureState(State.OFF, "stack_frames is 0")
    return Part(
        features={"stacks": feature},
        defines={
            "HAVE_STACKS": int(settings.stack_frames > 0),
            "NR_STACKS": settings.stacks,
            # The kernel numbers stacks by its hash table, whose size is a power of two.
            "NR_STACK_IDS": 1 << (settings.stacks - 1).bit_length(),
            "NR_STACK_FRAMES": settings.stack_frames,
        },
    )


def _stack_copies(facts: Facts, settings: Settings) -> Part:
    """Plan to look for pointers to devices on the kernel stacks of samples."""
    feature = FeatureState(State.ON, "likely ones, by pointers on kernel stacks")
    if not settings.stack_frames:
        feature = FeatureState(State.OFF, "stack_frames is 0")
    elif not all(name in facts.offsets for name in _WALK_OFFSETS):
        feature = FeatureState(State.OFF, "BTF does not describe struct device")
    return Part(
        features={"stack_devices": feature},
        defines={
            "HAVE_STACK_COPIES": int(feature.state == State.ON),
            "NR_STACK_COPY_PAGES": _STACK_COPY_PAGES,
        },
    )


def _nesting(facts: Facts) -> Part:
    """Plan one lane a CPU, or one for each nesting level on kernels without a recursion guard."""
    levels, reason = 1, ""
    if not facts.recursion_guard:
        levels, reason = _NESTING_LEVELS, "none in this kernel: a lane per nesting level instead"
    return Part(
        features={"recursion_guard": FeatureState(State.ON, reason)},
        defines={"NR_NESTING": levels, "NR_LANES": facts.cpus * levels},
    )


def _symbols(facts: Facts) -> Part:
    feature = FeatureState(State.ON)
    if not facts.kallsyms:
        feature = FeatureState(State.OFF, HIDDEN_SYMBOLS)
    return Part(features={"symbols": feature})


def _slabinfo(facts: Facts, settings: Settings) -> Part:
    feature = FeatureState(State.ON)
    if not settings.slabinfo:
        feature = FeatureState(State.OFF, "switched off by tracking.slabinfo")
    elif not facts.slabinfo:
        feature = FeatureState(State.OFF, "/proc/slabinfo cannot be read, or a container masks it")
    elif not facts.slab_directory:
        feature = FeatureState(
            State.DEGRADED,
            "/sys/kernel/slab cannot be read: other names of merged caches are not known, nor "
            "which are reclaimable",
        )
    return Part(features={"slabinfo": feature})


def _cgroups(facts: Facts) -> Part:
    """Plan to read the cgroup that memory is charged to."""
    needed = {
        "OFF_TASK_CGROUPS",
        "OFF_CSS_SET_CGROUP",
        "OFF_CSS_CGROUP",
        "OFF_CGROUP_KN",
        "OFF_KN_ID",
        "OFF_CGROUP_LEVEL",
    }
    if not facts.offsets.keys() >= needed:
        reason = "the kernel's BTF does not describe cgroups (CONFIG_CGROUPS)"
        return Part(
            features={"cgroups": FeatureState(State.OFF, reason)},
            defines={"HAVE_CGROUPS": 0, "OFF_CSS_SET_MEMORY": 0},
        )
    feature, memory = FeatureState(State.ON), 0
    if facts.cgroup_v1 and facts.memory_controller is not None:
        feature = FeatureState(State.ON, "by the memory hierarchy of cgroup v1")
        memory = facts.offsets["OFF_CSS_SET_SUBSYS"] + 8 * facts.memory_controller
    if facts.cgroups_hidden:
        feature = FeatureState(State.DEGRADED, facts.cgroups_hidden)
    return Part(
        features={"cgroups": feature},
        defines={"HAVE_CGROUPS": 1, "OFF_CSS_SET_MEMORY": memory},
    )


def _exact(settings: Settings, target: Target) -> Part:
    """Plan the filter of exact mode. Names of caches and text ranges are data (lanes.py)."""
    exact = settings.exact
    levels = (target.level, target.level)
    if target.level == ANY_LEVEL:
        levels = (0, _CGROUP_LEVELS - 1)
    defines = {
        "HAVE_EXACT": int(exact is not None),
        "HAVE_EXACT_CACHE": int(bool(target.caches)),
        "HAVE_EXACT_LARGE": int(LARGE_CACHE in target.caches),
        "HAVE_EXACT_SITE": int(exact is not None and bool(exact.site or exact.module)),
        "HAVE_EXACT_MODULE": int(exact is not None and bool(exact.module)),
        "EXACT_MODULE": name_hash(exact.module.replace("-", "_")) if exact and exact.module else 0,
        "EXACT_MIN_BYTES": (exact and exact.min_size) or 0,
        "EXACT_MAX_BYTES": (exact and exact.max_size) or 0,
        "EXACT_CGROUP": target.cgroup,
        "EXACT_LEVEL_FIRST": levels[0],
        "EXACT_LEVEL_LAST": levels[1],
        "EXACT_PID": target.pid,
    }
    features = {"exact_filter": FeatureState(State.ON)} if exact else {}
    return Part(features=features, defines=defines)


def _process_tree(facts: Facts, settings: Settings) -> Part:
    """Plan to follow the descendants of a process.

    Objects of reclaimable caches (dentries, inodes) are not tracked then, unless the filter names
    a cache: the kernel keeps them as long as nobody needs the memory. Raises UnsupportedHost if
    processes cannot be followed.
    """
    exact = settings.exact
    if exact is None or exact.process_tree is None:
        return Part(
            defines={"HAVE_PROCESS_TREE": 0, "EXACT_EXCLUDED_FLAGS": 0},
            unused=frozenset({"process_tree"}),
        )
    if "sched_process_fork" not in facts.prototypes or "OFF_TASK_TGID" not in facts.offsets:
        raise UnsupportedHost(
            "the kernel's BTF does not describe sched_process_fork, so that the processes that a "
            "command starts cannot be followed; name a module, site or cgroup with --exact"
        )
    flags = {**SLAB_FLAGS, **facts.slab_flags}
    return Part(
        features={"process_tree": FeatureState(State.ON)},
        defines={
            "HAVE_PROCESS_TREE": 1,
            "EXACT_EXCLUDED_FLAGS": 0 if exact.cache or exact.family else flags["RECLAIM_ACCOUNT"],
        },
    )


def _tables(facts: Facts, settings: Settings) -> Part:
    """Plan the sizes of the kernel's tables and the offsets that all programs need."""
    # Tags need atomic operations that return values: 5.12, on arm64 5.18.
    tags = facts.recursion_guard
    # Half of the tagged places stay free, so that there is one near where an address hashes to.
    lines = settings.samples * 2 // TAG_WAYS + TAG_PROBES if tags else 0
    offsets = {
        name: facts.offsets.get(name, 0)
        for name in OFFSETS
        if not name.startswith(("OFF_PAGE", "OFF_PCPU")) and name not in _PLANNED_OFFSETS
    }
    return Part(
        defines={
            **offsets,
            "PAGE_SHIFT": facts.page_bytes.bit_length() - 1,
            "PAGE_BYTES": facts.page_bytes,
            "NR_ALLOC_SLOTS": settings.site_slots or 0,
            "NR_FREE_SLOTS": settings.cache_slots or 0,
            "NR_SAMPLES": settings.samples,
            "HAVE_TAGS": int(tags),
            "NR_TAG_LINES": lines,
            "NR_POOL": lines * TAG_WAYS or settings.samples,
            "NR_CACHES": settings.caches,
            # Four times as many counters as samples: at most a quarter of them is ever set.
            "NR_FILTER_BITS": (settings.samples * 4 - 1).bit_length(),
            "NR_EVENT_PAGES": 64,
        },
        run=() if tags else (FILL_POOL,),
    )
