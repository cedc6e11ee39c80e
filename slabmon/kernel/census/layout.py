# SPDX-License-Identifier: Apache-2.0
"""Where the members lie that a census reads, from the running kernel's BTF. A member that this
kernel does not have is absent; no kernel version is ever asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slabmon.base.errors import UnsupportedHost
from slabmon.kernel.probe.btf import Btf
from slabmon.kernel.probe.facts import find_slab_test, per_cpu_symbols

# Name -> struct and member, by the names they had over time. Before 5.17 a slab was described by
# struct page (d122019bf061); obj_exts was called memcg_data (6.10), obj_cgroups before.
_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "page.flags": ("page.flags",),
    "page.type": ("page.page_type",),
    "page.memcg_data": ("page.memcg_data",),
    "page.refcount": ("page._refcount",),
    "page.mapping": ("page.mapping",),
    "page.lru": ("page.lru",),
    "page.compound": ("page.compound_head", "page.compound_info"),  # 7.1
    "slab.cache": ("slab.slab_cache", "page.slab_cache"),
    "slab.freelist": ("slab.freelist", "page.freelist"),
    "slab.inuse": ("slab.inuse", "page.inuse"),
    "slab.objects": ("slab.objects", "page.objects"),
    "slab.exts": ("slab.obj_exts", "slab.memcg_data", "page.obj_cgroups", "page.memcg_data"),
    # Two bits in the upper half of the counters; a stride in 7.0 to 7.2.
    "slab.exts_in_object": ("slab.obj_exts_in_object",),
    "slab.exts_needs_objcg": ("slab.obj_exts_needs_objcg",),
    "slab.stride": ("slab.stride",),
    "cache.name": ("kmem_cache.name",),
    "cache.list": ("kmem_cache.list",),
    "cache.size": ("kmem_cache.size",),
    "cache.object_size": ("kmem_cache.object_size",),
    "cache.offset": ("kmem_cache.offset",),
    "cache.random": ("kmem_cache.random",),
    "cache.red_left_pad": ("kmem_cache.red_left_pad",),
    "cache.oo": ("kmem_cache.oo",),
    "cache.min": ("kmem_cache.min",),
    "cache.cpu_slab": ("kmem_cache.cpu_slab",),
    "cache.cpu_sheaves": ("kmem_cache.cpu_sheaves",),
    "cache.sheaf_capacity": ("kmem_cache.sheaf_capacity",),
    "cache.node": ("kmem_cache.node",),
    "cache.barn[0]": ("kmem_cache.per_node[0].barn",),
    "cache.barn[1]": ("kmem_cache.per_node[1].barn",),
    "cpu_slab.freelist": ("kmem_cache_cpu.freelist",),
    "cpu_slab.slab": ("kmem_cache_cpu.slab", "kmem_cache_cpu.page"),
    "node.barn": ("kmem_cache_node.barn",),
    "barn.full": ("node_barn.sheaves_full",),
    "sheaves.main": ("slub_percpu_sheaves.main",),
    "sheaves.spare": ("slub_percpu_sheaves.spare",),
    "sheaves.rcu_free": ("slub_percpu_sheaves.rcu_free",),
    "sheaf.list": ("slab_sheaf.barn_list",),
    "sheaf.cache": ("slab_sheaf.cache",),
    "sheaf.size": ("slab_sheaf.size",),
    "sheaf.objects": ("slab_sheaf.objects",),
    "ext.objcg": ("slabobj_ext.objcg", "slabobj_ext._objcg"),
    "ext.tag": ("slabobj_ext.ref", "slabobj_ext._ctref"),
    "codetag.lineno": ("codetag.lineno",),
    "codetag.modname": ("codetag.modname",),
    "codetag.function": ("codetag.function",),
    "codetag.filename": ("codetag.filename",),
    "objcg.memcg": ("obj_cgroup.memcg",),
    "memcg.css": ("mem_cgroup.css",),
    "memcg.objcg": ("mem_cgroup.objcg",),
    "memcg.orig_objcg": ("mem_cgroup.orig_objcg",),
    "memcg.nodeinfo": ("mem_cgroup.nodeinfo",),
    "memcg_node.objcg": ("mem_cgroup_per_node.objcg",),
    "memcg_node.orig_objcg": ("mem_cgroup_per_node.orig_objcg",),
    "css.cgroup": ("cgroup_subsys_state.cgroup",),
    "css.flags": ("cgroup_subsys_state.flags",),
    "css.parent": ("cgroup_subsys_state.parent",),
    "css.children": ("cgroup_subsys_state.children",),
    "css.sibling": ("cgroup_subsys_state.sibling",),
    "cgroup.kn": ("cgroup.kn",),
    "kn.parent": ("kernfs_node.__parent", "kernfs_node.parent"),
    "kn.name": ("kernfs_node.name",),
    "kn.priv": ("kernfs_node.priv",),
    "kobject.name": ("kobject.name",),
    "kobject.kset": ("kobject.kset",),
    "kobject.sd": ("kobject.sd",),
    "kset.name": ("kset.kobj.name",),
    "device.kobj": ("device.kobj",),
    "device.parent": ("device.parent",),
    "device.bus": ("device.bus",),
    "device.class": ("device.class",),
    "device.driver": ("device.driver",),
    "device.driver_data": ("device.driver_data",),
    "bus.name": ("bus_type.name",),
    "class.name": ("class.name",),
    "driver.name": ("device_driver.name",),
    "driver.owner": ("device_driver.owner",),
    "module.name": ("module.name",),
    "task.stack_area": ("task_struct.stack_vm_area",),
    "task.stack": ("task_struct.stack",),
    "task.on_cpu": ("task_struct.on_cpu",),
    "task.nvcsw": ("task_struct.nvcsw",),
    "task.nivcsw": ("task_struct.nivcsw",),
    "task.parent": ("task_struct.real_parent",),
    "task.pid": ("task_struct.pid",),
    "task.tgid": ("task_struct.tgid",),
    "task.cgroups": ("task_struct.cgroups",),
    "css_set.subsys": ("css_set.subsys",),
    "cgroup.subsys": ("cgroup.subsys",),
    "module_kobject.kobj": ("module_kobject.kobj",),
    "module_kobject.mod": ("module_kobject.mod",),
    "module.base": ("module.mem[0].base", "module.core_layout.base"),
    "module.base[1]": ("module.mem[1].base",),
    "module.size": ("module.mem[0].size", "module.core_layout.size"),
    "vmap_area.vm": ("vmap_area.vm",),
    "task.comm": ("task_struct.comm",),
    "task.sp": ("task_struct.thread.sp", "task_struct.thread.cpu_context.sp"),
    "task.fpu": ("task_struct.thread.fpu.__fpstate.regs", "task_struct.thread.fpu.state"),
    "task.simd": ("task_struct.thread.uw.fpsimd_state",),
    "fpu.regs": ("fpu.__fpstate.regs",),
    "area.addr": ("vm_struct.addr",),
    "area.pages": ("vm_struct.pages",),
    "area.nr_pages": ("vm_struct.nr_pages",),
    "task.files": ("task_struct.files",),
    "files.fdt": ("files_struct.fdt",),
    "fdt.fd": ("fdtable.fd",),
    "file.private": ("file.private_data",),
    "hot.hardirq_stack_inuse": ("pcpu_hot.hardirq_stack_inuse",),
    "rq.cpu": ("rq.cpu",),
    "rq.idle": ("rq.idle",),
    "krc.bkvcache": ("kfree_rcu_cpu.bkvcache",),
    "array.pptrs": ("bpf_array.pptrs",),
}
# Variables of each CPU: offsets in the section that holds them.
_PER_CPU_SECTION = ".data..percpu"
_PER_CPU = (
    "cached_stacks",
    "hardirq_stack_inuse",
    "irq_count",
    "irq_stack_backing_store",
    "krc",
    "pcpu_hot",
    "runqueues",
    "this_cpu_off",
)
_LARGEST_SECTION = 1 << 24  # bytes
_ALLOCINFO = Path("/proc/allocinfo")
_BITS = ("slab.exts_in_object", "slab.exts_needs_objcg")
_SIZES = ("page", "slabobj_ext", "task_struct")
_NEEDED = (
    "slab.cache",
    "slab.freelist",
    "slab.inuse",
    "slab.objects",
    "cache.name",
    "cache.size",
    "cache.object_size",
    "cache.offset",
    "cache.oo",
    "cache.min",
    "task.stack_area",
    "area.pages",
)


# Of pieces of a module's memory, of cgroup controllers, and the number of one.
_ENUMS = ("MOD_MEM_NUM_TYPES", "CGROUP_SUBSYS_COUNT", "memory_cgrp_id")


def _values(btf: Btf, name: str) -> list[int]:
    values = btf.enum_values(name)
    return [values[name]] if name in values else []


@dataclass(frozen=True)
class PageTest:
    """The word of struct page, 32 bits at `offset`, that marks a slab's first page."""

    offset: int
    mask: int
    value: int


@dataclass(frozen=True)
class Layout:
    """Offsets of members, sizes of structs, both in bytes, and marks of pages and cgroups."""

    offsets: Mapping[str, int]
    sizes: Mapping[str, int]
    slab_page: PageTest
    large_page: PageTest | None
    css_online: int
    css_dying: int
    tagged: bool = False  # whether object extensions hold allocation tags, where that varies
    masks: Mapping[str, int] = field(default_factory=dict)  # of bit fields, in their byte
    enums: Mapping[str, int] = field(default_factory=dict)  # values of enumerators

    def __getitem__(self, member: str) -> int:
        return self.offsets[member]

    def __contains__(self, member: str) -> bool:
        return member in self.offsets

    def has(self, *members: str) -> bool:
        """Return whether this kernel has all of these members."""
        return self.offsets.keys() >= set(members)

    def require(self, what: str, *members: str, enums: Iterable[str] = ()) -> None:
        """Raise UnsupportedHost, for `what` cannot be found, if this kernel lacks any of these
        members and values of enums."""
        missing = [name for name in members if name not in self.offsets]
        missing += [name for name in enums if name not in self.enums]
        if missing:
            raise other_kernel(what, missing)

    @classmethod
    def of(cls, btf: Btf | None) -> Layout:
        """Raises UnsupportedHost if the kernel describes no slabs."""
        if btf is None:
            raise UnsupportedHost(
                "census: this kernel has no BTF (/sys/kernel/btf/vmlinux), which says where its "
                "structures' members lie; use a kernel with CONFIG_DEBUG_INFO_BTF, in a container "
                "with the host's /sys"
            )
        paths = [path for names in _MEMBERS.values() for path in names]
        btf.load(struct={path.partition(".")[0] for path in paths} | {*_SIZES})
        offsets = {}
        for name, alternatives in _MEMBERS.items():
            for path in alternatives:
                struct, _, member = path.partition(".")
                offset = btf.offset(struct, member)
                if offset is not None:
                    offsets[name] = offset
                    break
        per_cpu = btf.variables(_PER_CPU_SECTION) or _listed_per_cpu()
        offsets |= {f"percpu.{name}": per_cpu[name] for name in _PER_CPU if name in per_cpu}
        if {"percpu.pcpu_hot", "hot.hardirq_stack_inuse"} <= offsets.keys():  # 6.2 to 6.14
            flag = offsets["percpu.pcpu_hot"] + offsets["hot.hardirq_stack_inuse"]
            offsets["percpu.hardirq_stack_inuse"] = flag
        masks = {
            name: 1 << bit % 8
            for name in _BITS
            if (bit := btf.bit(*_MEMBERS[name][0].split("."))) is not None
        }
        sizes = {name: size for name in _SIZES if (size := btf.size(name)) is not None}
        test, in_flags = find_slab_test(btf)
        missing = [name for name in _NEEDED if name not in offsets]
        if test is None or missing or not (in_flags or "page.type" in offsets):
            raise other_kernel("slabs", missing or ["a test for pages of slabs"])
        place = offsets["page.flags" if in_flags else "page.type"]
        large = btf.enum_values("PGTY_large_kmalloc").get("PGTY_large_kmalloc")
        css = btf.enum_values("CSS_ONLINE")
        return cls(
            offsets=offsets,
            sizes=sizes,
            slab_page=PageTest(place, *test),
            large_page=None if large is None else PageTest(place, 0xFF000000, large << 24),
            css_online=css.get("CSS_ONLINE", 1 << 1),
            css_dying=css.get("CSS_DYING", 1 << 4),
            # The file is there unless profiling is off for good (slab_obj_ext_has_codetag()).
            masks=masks,
            enums={name: value for name in _ENUMS for value in _values(btf, name)},
            tagged="ext.tag" in offsets and _ALLOCINFO.exists(),
        )


def _listed_per_cpu() -> dict[str, int]:
    """Return the offsets of per-CPU variables that /proc/kallsyms shows, where their section begins
    at 0: on x86-64 up to 6.14."""
    return per_cpu_symbols(_PER_CPU, end=_LARGEST_SECTION)


def other_kernel(what: str, expected: Iterable[str]) -> UnsupportedHost:
    """Return the error of a kernel that differs from all known ones."""
    return UnsupportedHost(
        f"{what} of this kernel cannot be read: expected in its BTF: "
        f"{', '.join(expected)}; please report this kernel"
    )
