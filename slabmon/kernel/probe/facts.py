# SPDX-License-Identifier: Apache-2.0
"""Facts about this host, probed once. Nothing is decided here: planning/ does that."""

from __future__ import annotations

import mmap
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slabmon.kernel.bpf import syscall
from slabmon.kernel.probe import btf as btf_module
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
    "OFF_TASK_CGROUPS": ("task_struct", "cgroups"),
    "OFF_CSS_SET_CGROUP": ("css_set", "dfl_cgrp"),
    "OFF_CGROUP_LEVEL": ("cgroup", "level"),
    "OFF_CGROUP_ANCESTOR_IDS": ("cgroup", "ancestor_ids"),  # before 6.1
}
SIZES = ("page", "devres")
# Added together with the guard that keeps a raw tracepoint program from running inside itself
# (kernel commit 05b24ff9b2cf, 6.1).
_RECURSION_GUARD = "bpf_prog_inc_misses_counter"
# Names the GFP flags where BTF does not: before 6.10 they are macros.
_FORMATS = tuple(
    f"/sys/kernel/{tracefs}/events/kmem/kmalloc/format" for tracefs in ("tracing", "debug/tracing")
)
_GET_CACHE, _CAST = "bpf_get_kmem_cache", "bpf_rdonly_cast"
# A struct that begins with 64 bits of integer: the verifier takes memory read through it for
# numbers, not pointers.
_NUMBER = "timespec64"


@dataclass(frozen=True)
class Facts:
    """One host. `offsets` and `sizes` are in bytes, and by name as `prototypes` and `functions`.

    `slab_test` are the mask and value of find_slab_test(), `slab_flags` the masks and `gfp_bits`
    the bit numbers of flags. `fentry_refused` is the kernel's reason, or "".
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


def can_open(path: str) -> bool:
    """Return whether a file can be opened, without reading it."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


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


def _site_decides_cache(names: list[str]) -> bool:
    """Return whether size and flags alone decide which cache kmalloc uses.

    kmalloc(constant) passes the return address of the enclosing function, not its own, to the
    choice of a kmalloc-rnd-NN or kmalloc-part-NN cache (include/linux/slab.h), so one call site
    can use several.
    """
    return not any(name.startswith(("kmalloc-rnd-", "kmalloc-part-")) for name in names)


def _has_page_symbols(path: Path = Path("/proc/kallsyms")) -> bool:
    """Return whether the variables that locate all memory are listed (KALLSYMS_ALL)."""
    text = path.read_bytes()
    names = TELLTALES.get(platform.machine(), ("none",))
    return all(f" {name}\n".encode() in text for name in names)


def _fentry_refused(functions: Iterable[btf_module.Function | None]) -> str:
    """Return why no program can be attached to kernel functions, or "" if one can."""
    known = next((function for function in functions if function), None)
    if known is None or os.geteuid() != 0:
        return ""
    return syscall.refuses_fentry(known.btf_id)


def probe() -> Facts:
    """Return the facts of the running host. Without privileges fewer are found."""
    btf = btf_module.read_vmlinux()
    from_btf = _btf_facts(btf) if btf is not None else {}
    visible = _addresses_visible()
    try:
        slab_names = os.listdir("/sys/kernel/slab")
    except OSError:
        slab_names = []
    return Facts(
        release=platform.release(),
        machine=platform.machine(),
        boot_id=read_text("/proc/sys/kernel/random/boot_id") or "",
        cpus=count_list(read_text("/sys/devices/system/cpu/possible")),
        nodes=count_list(read_text("/sys/devices/system/node/possible")),
        page_bytes=mmap.PAGESIZE,
        root=os.geteuid() == 0,
        btf=btf is not None,
        kallsyms=visible,
        page_symbols=visible and from_btf.get("kfunc_get_cache") is None and _has_page_symbols(),
        modules=os.path.exists("/proc/modules"),
        site_decides_cache=_site_decides_cache(slab_names),
        slabinfo=can_open("/proc/slabinfo"),  # reading it takes the locks of all caches
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
    slab_test, in_flags = find_slab_test(btf)
    return {
        # The first argument is the probe's own data.
        "prototypes": {e: tuple(types[1:]) for e, types in prototypes.items() if types is not None},
        "offsets": {macro: offset for macro, offset in offsets.items() if offset is not None},
        "sizes": {name: size for name, size in sizes.items() if size is not None},
        "functions": {name: function for name, function in functions.items() if function},
        "fentry_refused": _fentry_refused(functions.values()),
        "flags_bytes": btf.member_size("kmem_cache", "flags") or 4,
        "kfunc_get_cache": btf.find("func", _GET_CACHE),
        "kfunc_cast": btf.find("func", _CAST),
        "number_type": btf.find("struct", _NUMBER),
        "recursion_guard": btf.find("func", _RECURSION_GUARD) is not None,
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
