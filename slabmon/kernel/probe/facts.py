# SPDX-License-Identifier: Apache-2.0
"""Facts about this host, probed once. Nothing is decided here: planning/ does that."""

from __future__ import annotations

import mmap
import os
import platform
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slabmon.base.errors import UsageError
from slabmon.kernel.bpf import syscall
from slabmon.kernel.probe import btf as btf_module
from slabmon.kernel.probe import slabinfo
from slabmon.kernel.probe.cgroups import ANY_LEVEL, Cgroups, charges_v1
from slabmon.kernel.probe.direct_map import TELLTALES
from slabmon.kernel.probe.gfp import bits_from_format
from slabmon.kernel.programs import EVENTS, FUNCTIONS

# Macro -> struct, and the names that the member had over time.
OFFSETS: dict[str, tuple[str, ...]] = {
    "OFF_CACHE_NAME": ("kmem_cache", "name"),
    "OFF_CACHE_FLAGS": ("kmem_cache", "flags"),
    "OFF_CACHE_SIZE": ("kmem_cache", "size"),
    "OFF_CACHE_OBJECT_SIZE": ("kmem_cache", "object_size"),
    "OFF_SLAB_CACHE": ("slab", "slab_cache"),
    "OFF_PAGE_SLAB_CACHE": ("page", "slab_cache"),
    "OFF_PAGE_TYPE": ("page", "page_type"),
    "OFF_PAGE_COMPOUND_HEAD": ("page", "compound_head"),
    "OFF_TASK_STACK_AREA": ("task_struct", "stack_vm_area"),
    "OFF_AREA_PAGES": ("vm_struct", "pages"),
    "OFF_TASK_FILES": ("task_struct", "files"),
    "OFF_TASK_FS": ("task_struct", "fs"),
    "OFF_TASK_MM": ("task_struct", "mm"),
    "OFF_TASK_CRED": ("task_struct", "cred"),
    "OFF_TASK_SIGNAL": ("task_struct", "signal"),
    "OFF_TASK_SIGHAND": ("task_struct", "sighand"),
    "OFF_TASK_TGID": ("task_struct", "tgid"),
    "OFF_DEVICE_KOBJ": ("device", "kobj"),
    "OFF_DEVICE_BUS": ("device", "bus"),
    "OFF_DEVICE_CLASS": ("device", "class"),
    "OFF_DEVICE_DRIVER": ("device", "driver"),
    "OFF_DEVICE_DEVRES": ("device", "devres_head"),
    "OFF_DEVICE_PARENT": ("device", "parent"),
    "OFF_DEVICE_DATA": ("device", "driver_data"),
    "OFF_DMA_MEM": ("device", "dma_mem"),  # CONFIG_DMA_DECLARE_COHERENT
    "OFF_DMA_MEM_BASE": ("dma_coherent_mem", "virt_base"),
    "OFF_DMA_MEM_PAGES": ("dma_coherent_mem", "size"),
    "OFF_KOBJECT_NAME": ("kobject", "name"),
    "OFF_KOBJECT_ENTRY": ("kobject", "entry"),
    "OFF_KOBJECT_KSET": ("kobject", "kset"),
    "OFF_KSET_LIST": ("kset", "list"),
    "OFF_BUS_NAME": ("bus_type", "name"),
    "OFF_CLASS_NAME": ("class", "name"),
    "OFF_DRIVER_NAME": ("device_driver", "name"),
    "OFF_DRIVER_OWNER": ("device_driver", "owner"),
    "OFF_DEVRES_ENTRY": ("devres_node", "entry"),
    "OFF_DEVRES_RELEASE": ("devres_node", "release"),
    "OFF_DEVRES_NAME": ("devres_node", "name"),
    "OFF_DEVRES_SIZE": ("devres_node", "size"),
    "OFF_MODULE_NAME": ("module", "name"),
    # enum mod_mem_type: MOD_TEXT 0, MOD_INIT_TEXT 4 (6.4+); core_layout and init_layout before
    "OFF_MODULE_BASE": ("module", "mem[0].base", "core_layout.base"),
    "OFF_MODULE_BYTES": ("module", "mem[0].size", "core_layout.text_size"),
    "OFF_MODULE_INIT_BASE": ("module", "mem[4].base", "init_layout.base"),
    "OFF_MODULE_INIT_BYTES": ("module", "mem[4].size", "init_layout.text_size"),
    "OFF_SKB_DEV": ("sk_buff", "dev"),
    "OFF_NET_DEVICE_DEV": ("net_device", "dev"),
    "OFF_BLOCK_DEVICE_DEV": ("block_device", "bd_device"),  # 5.11+
    "OFF_TASK_CGROUPS": ("task_struct", "cgroups"),
    "OFF_TASK_ACTIVE_MEMCG": ("task_struct", "active_memcg"),  # CONFIG_MEMCG
    "OFF_CSS_SET_CGROUP": ("css_set", "dfl_cgrp"),
    "OFF_CSS_SET_SUBSYS": ("css_set", "subsys"),
    "OFF_CSS_CGROUP": ("cgroup_subsys_state", "cgroup"),  # a mem_cgroup's first member is its css
    "OFF_CGROUP_KN": ("cgroup", "kn"),
    "OFF_KN_ID": ("kernfs_node", "id"),
    "OFF_CGROUP_LEVEL": ("cgroup", "level"),
    "OFF_CGROUP_ANCESTORS": ("cgroup", "ancestors"),  # 6.1+
    "OFF_CGROUP_ANCESTOR_IDS": ("cgroup", "ancestor_ids"),  # before 6.1
    "OFF_TASK_CFS_RQ": ("task_struct", "se.cfs_rq"),
    "OFF_CFS_RQ_RQ": ("cfs_rq", "rq"),  # CONFIG_FAIR_GROUP_SCHED
    "OFF_TASK_PREEMPT_COUNT": ("task_struct", "thread_info.preempt_count"),  # arm64
    "OFF_TASK_SOFTIRQ_COUNT": ("task_struct", "softirq_disable_cnt"),  # CONFIG_PREEMPT_RT
    "OFF_PCPU_HOT_PREEMPT_COUNT": ("pcpu_hot", "preempt_count"),  # x86-64, 6.2 to 6.14
}
SIZES = ("page", "devres", "device", "net_device", "block_device")
# Per-CPU variables. The last one came together with the count of disabled interrupts in bits 16 to
# 23 of the preemption count (kernel commit 9634d860ac15, 7.3).
PER_CPU = ("runqueues", "__preempt_count", "pcpu_hot", "local_interrupt_disable_state")
_PER_CPU_SECTION = ".data..percpu"
# Why the features are reduced for which addresses of symbols are needed.
HIDDEN_SYMBOLS = (
    "/proc/kallsyms hides addresses; set kernel.kptr_restrict to 0 or 1 (a container also needs "
    "CAP_SYSLOG, and the file not masked)"
)
# Added together with the guard that keeps a raw tracepoint program from running inside itself
# (kernel commit 05b24ff9b2cf, 6.1).
_RECURSION_GUARD = "bpf_prog_inc_misses_counter"
# Names the GFP flags where BTF does not: before 6.10 they are macros.
_FORMATS = tuple(
    f"/sys/kernel/{tracefs}/events/kmem/kmalloc/format" for tracefs in ("tracing", "debug/tracing")
)
_MEMORY_CONTROLLER = "memory_cgrp_id"
_GET_CACHE, _CAST = "bpf_get_kmem_cache", "bpf_rdonly_cast"
# A struct that begins with 64 bits of integer: the verifier takes memory read through it for
# numbers, not pointers.
_NUMBER = "timespec64"


@dataclass(frozen=True)
class Facts:
    """One host. `offsets` and `sizes` are in bytes, and by name as `prototypes` and `functions`.

    `per_cpu` are the offsets of per-CPU variables in bytes, all from the same place.
    `slab_test` are the mask and value of find_slab_test(), `slab_flags` the masks and `gfp_bits`
    the bit numbers of flags. `fentry_refused` is the kernel's reason, or "".
    `cgroup_v1`: memory is charged by cgroup v1; `memory_controller` is the number of the memory
    controller (enum cgroup_subsys_id), None without CONFIG_MEMCG. `cgroups_hidden` says why cgroups
    have no names, "" if they have.
    """

    release: str
    machine: str
    boot_id: str
    cpus: int
    nodes: int
    page_bytes: int
    root: bool
    btf: bool
    prototypes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    functions: Mapping[str, btf_module.Function] = field(default_factory=dict)
    offsets: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    per_cpu: Mapping[str, int] = field(default_factory=dict)
    flags_bytes: int = 4
    kfunc_get_cache: int | None = None
    kfunc_cast: int | None = None
    number_type: int | None = None
    recursion_guard: bool = False
    slab_test: tuple[int, int] | None = None
    slab_test_in_flags: bool = False
    kallsyms: bool = False
    page_symbols: bool = False
    modules: bool = False
    site_decides_cache: bool = True
    slabinfo: bool = False
    slab_directory: bool = True
    cgroup_v1: bool = False
    cgroups_hidden: str = ""
    memory_controller: int | None = None
    lockdown: str = "none"
    fentry_refused: str = ""
    gfp_bits: Mapping[str, int] = field(default_factory=dict)
    slab_flags: Mapping[str, int] = field(default_factory=dict)


def read_text(path: str) -> str | None:
    """Return the text of a small file, or None if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def is_shown(path: str, system: str = "/proc/self") -> bool:
    """Return whether a file can be opened and is of the same file system as `system`, without
    reading it. Container runtimes put /dev/null or a file of their own in the place of some."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.fstat(descriptor).st_dev == os.stat(system).st_dev
        finally:
            os.close(descriptor)
    except OSError:
        return False


def count_list(text: str | None) -> int:
    """Return the highest number in a list such as `0-3,8` plus one: possible CPUs or nodes."""
    numbers = (text or "0").replace(",", "-").split("-")
    return max(int(number) for number in numbers) + 1


def node_of_cpu(nodes: int) -> dict[int, int]:
    """Return the NUMA node of each CPU, from sysfs."""
    node_of: dict[int, int] = {}
    for node in range(nodes):
        cpus = read_text(f"/sys/devices/system/node/node{node}/cpulist") or ""
        for part in filter(None, cpus.split(",")):
            first, _, last = part.partition("-")
            node_of |= dict.fromkeys(range(int(first), int(last or first) + 1), node)
    return node_of


def lockdown_state(text: str | None) -> str:
    """Return the bracketed word of /sys/kernel/security/lockdown."""
    if not text or "[" not in text:
        return "none"
    return text.split("[", 1)[1].split("]", 1)[0]


def find_slab_test(btf: btf_module.Btf) -> tuple[tuple[int, int] | None, bool]:
    """Return mask and value that identify a slab page, and whether they apply to page->flags.

    6.12+: page_type >> 24 == PGTY_slab; 6.10 and 6.11: the PG_slab bit of page_type is 0 (6.10)
    or 1 (6.11) below a fixed base; before: the PG_slab bit of page->flags.
    """
    values = btf.enum_values("PGTY_slab")
    if values:
        return (0xFF000000, values["PGTY_slab"] << 24), False
    values = btf.enum_values("PG_slab")
    if "PG_locked" in values:
        bit = 1 << values["PG_slab"]
        return (bit, bit), True
    if values:
        bit = values["PG_slab"] & 0xFFFFFFFF
        if bit <= 0x8000:
            return (0xF0000000 | bit, 0xF0000000), False
        return (0x80000000 | bit, 0x80000000), False
    return None, False


def _slab_names() -> list[str]:
    """Return the names of caches; [] where sysfs is hidden or does not have them."""
    try:
        return os.listdir("/sys/kernel/slab")
    except OSError:
        return []


def _site_decides_cache(names: Collection[str]) -> bool:
    """Return whether size and flags alone decide which cache kmalloc uses; False if not known.

    kmalloc(constant) passes the return address of the enclosing function, not its own, to the
    choice of a kmalloc-rnd-NN or kmalloc-part-NN cache (include/linux/slab.h), so one call site
    can use several.
    """
    several = any(name.startswith(("kmalloc-rnd-", "kmalloc-part-")) for name in names)
    return bool(names) and not several


def _has_page_symbols(path: Path = Path("/proc/kallsyms")) -> bool:
    """Return whether the variables that locate all memory are listed (KALLSYMS_ALL)."""
    text = path.read_bytes()
    names = TELLTALES.get(platform.machine(), ("none",))
    return all(f" {name}\n".encode() in text for name in names)


def per_cpu_symbols(
    names: Iterable[str] = PER_CPU, end: int = 1 << 64, path: Path = Path("/proc/kallsyms")
) -> dict[str, int]:
    """Return the addresses of those of these per-CPU variables that are listed (KALLSYMS_ALL), of
    those below `end` alone. Only the distance of two has a meaning; hidden addresses are 0."""
    wanted = "|".join(names).encode()
    lines = re.findall(rb"^([0-9a-f]+) \S (" + wanted + rb")$", path.read_bytes(), re.M)
    found = [(name.decode(), at) for digits, name in lines if (at := int(digits, 16)) < end]
    listed = dict(found)
    return listed if len(listed) == len(found) and all(listed.values()) else {}


def _fentry_refused(functions: Iterable[btf_module.Function | None]) -> str:
    """Return why no program can be attached to kernel functions, or "" if one can."""
    known = next((function for function in functions if function), None)
    if known is None or os.geteuid() != 0:
        return ""
    return syscall.refuses_fentry(known.btf_id)


def cgroups_hidden(cgroups: Cgroups) -> str:
    """Return why not all cgroups have names, or "" if they have."""
    try:
        _, level = cgroups.find_at("/")
    except UsageError:
        return (
            "no hierarchy of cgroups is mounted here: they are shown by number; mount the host's "
            "/sys/fs/cgroup"
        )
    if level == ANY_LEVEL:
        return (
            "only a part of the hierarchy is mounted here, as in a cgroup namespace: other cgroups "
            "are shown by number; mount the host's /sys/fs/cgroup"
        )
    return ""


def probe() -> Facts:
    """Return the facts of the running host. Without privileges fewer are found."""
    btf = btf_module.read_vmlinux()
    from_btf = _btf_facts(btf) if btf is not None else {}
    visible = _addresses_visible()
    # BTF of 5.10 has no variables.
    per_cpu = from_btf.pop("per_cpu", {}) or (per_cpu_symbols() if visible else {})
    possible = read_text("/sys/devices/system/cpu/possible")
    slab_names, v1 = _slab_names(), charges_v1()
    return Facts(
        release=platform.release(),
        machine=platform.machine(),
        boot_id=read_text("/proc/sys/kernel/random/boot_id") or "",
        cpus=count_list(possible) if possible else 0,
        nodes=count_list(read_text("/sys/devices/system/node/possible")),
        page_bytes=mmap.PAGESIZE,
        per_cpu=per_cpu,
        root=os.geteuid() == 0,
        btf=btf is not None,
        kallsyms=visible,
        page_symbols=visible and from_btf.get("kfunc_get_cache") is None and _has_page_symbols(),
        modules=os.path.exists("/proc/modules"),
        site_decides_cache=_site_decides_cache(slab_names or slabinfo.read()),
        cgroup_v1=v1,
        cgroups_hidden=cgroups_hidden(Cgroups(v1=v1)),
        slabinfo=is_shown("/proc/slabinfo"),  # reading it takes the locks of all caches
        slab_directory=bool(slab_names),
        lockdown=lockdown_state(read_text("/sys/kernel/security/lockdown")),
        **from_btf,
    )


def _btf_facts(btf: btf_module.Btf) -> dict[str, Any]:
    """Return the fields of Facts that come from BTF."""
    btf.load(
        struct={entry[0] for entry in OFFSETS.values()} | {*SIZES, _NUMBER},
        typedef=[f"btf_trace_{event}" for event in EVENTS],
        func=[_RECURSION_GUARD, _GET_CACHE, _CAST, *FUNCTIONS],
    )
    prototypes = {event: btf.prototype(f"btf_trace_{event}") for event in EVENTS}
    offsets = {macro: btf.offset(name, *members) for macro, (name, *members) in OFFSETS.items()}
    sizes = {name: btf.size(name) for name in SIZES}
    functions = {name: btf.function(name) for name in FUNCTIONS}
    per_cpu = btf.variables(_PER_CPU_SECTION)
    slab_test, in_flags = find_slab_test(btf)
    return {
        # The first argument is the probe's own data.
        "prototypes": {e: tuple(types[1:]) for e, types in prototypes.items() if types is not None},
        "offsets": {macro: offset for macro, offset in offsets.items() if offset is not None},
        "sizes": {name: size for name, size in sizes.items() if size is not None},
        "per_cpu": {name: per_cpu[name] for name in PER_CPU if name in per_cpu},
        "functions": {name: function for name, function in functions.items() if function},
        "fentry_refused": _fentry_refused(functions.values()),
        "flags_bytes": btf.member_size("kmem_cache", "flags") or 4,
        "kfunc_get_cache": btf.find("func", _GET_CACHE),
        "kfunc_cast": btf.find("func", _CAST),
        "number_type": btf.find("struct", _NUMBER),
        "recursion_guard": btf.find("func", _RECURSION_GUARD) is not None,
        "memory_controller": btf.enum_values(_MEMORY_CONTROLLER).get(_MEMORY_CONTROLLER),
        "slab_test": slab_test,
        "slab_test_in_flags": in_flags,
        "gfp_bits": _gfp_bits(btf),
        "slab_flags": {
            name.removeprefix("_SLAB_"): 1 << bit
            for name, bit in btf.enum_values("_SLAB_CACHE_DMA").items()
        },
    }


def _gfp_bits(btf: btf_module.Btf) -> dict[str, int]:
    """Return bit numbers of GFP flags, from BTF or else from the tracepoint's format."""
    bits = {
        name.removeprefix("___GFP_").removesuffix("_BIT"): bit
        for name, bit in btf.enum_values("___GFP_DMA_BIT").items()
    }
    return bits or bits_from_format(next(filter(None, map(read_text, _FORMATS)), ""))


def _addresses_visible() -> bool:
    """Return whether /proc/kallsyms shows addresses to this process."""
    with open("/proc/kallsyms", "rb") as kallsyms:
        # The first per-CPU symbols lie at 0 even if addresses are shown.
        return any(line[:16].strip(b"0") for line in kallsyms.read(1 << 16).splitlines())
