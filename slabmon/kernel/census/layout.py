# SPDX-License-Identifier: Apache-2.0
"""Where the members lie that a census reads, from the running kernel's BTF. A member that this
kernel does not have is absent; no kernel version is ever asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slabmon.base.errors import UnsupportedHost
from slabmon.kernel.probe.btf import Btf
from slabmon.kernel.probe.facts import find_slab_test

# Name -> struct and member, by the names they had over time. Before 5.17 a slab was described by
# struct page (d122019bf061); obj_exts was called memcg_data (6.10), obj_cgroups before.
_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "page.flags": ("page.flags",),
    "page.type": ("page.page_type",),
    "page.memcg_data": ("page.memcg_data",),
    "page.refcount": ("page._refcount",),
    "page.mapping": ("page.mapping",),
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
    "area.pages": ("vm_struct.pages",),
    "task.files": ("task_struct.files",),
    "files.fdt": ("files_struct.fdt",),
    "fdt.fd": ("fdtable.fd",),
    "file.private": ("file.private_data",),
    "array.pptrs": ("bpf_array.pptrs",),
}
_ALLOCINFO = Path("/proc/allocinfo")
_BITS = ("slab.exts_in_object", "slab.exts_needs_objcg")
_SIZES = ("page", "slabobj_ext")
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

    def __getitem__(self, member: str) -> int:
        return self.offsets[member]

    def __contains__(self, member: str) -> bool:
        return member in self.offsets

    def has(self, *members: str) -> bool:
        """Return whether this kernel has all of these members."""
        return self.offsets.keys() >= set(members)

    @classmethod
    def of(cls, btf: Btf | None) -> Layout:
        """Raises UnsupportedHost if the kernel describes no slabs."""
        if btf is None:
            raise UnsupportedHost(
                "census: this kernel has no BTF (/sys/kernel/btf/vmlinux), which says where its "
                "structures' members lie; use a kernel with CONFIG_DEBUG_INFO_BTF"
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
        masks = {
            name: 1 << bit % 8
            for name in _BITS
            if (bit := btf.bit(*_MEMBERS[name][0].split("."))) is not None
        }
        sizes = {name: size for name in _SIZES if (size := btf.size(name)) is not None}
        test, in_flags = find_slab_test(btf)
        missing = [name for name in _NEEDED if name not in offsets]
        if test is None or missing or not (in_flags or "page.type" in offsets):
            raise UnsupportedHost(
                f"census: this kernel's slabs are not understood ({', '.join(missing)}); "
                "please report this kernel"
            )
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
            tagged="ext.tag" in offsets and _ALLOCINFO.exists(),
        )
