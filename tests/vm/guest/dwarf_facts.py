# SPDX-License-Identifier: Apache-2.0
"""What the kernel's source says of lists, and of structs inside others, and no type does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Heads of lists, and what is linked there: the struct, and its link. The head is a member or a
# variable.
LISTS: Mapping[str, str] = {
    # kernel/module/internal.h, include/linux/module.h
    "modules": "module.list",
    "module.source_list": "module_use.source_list",
    "module.target_list": "module_use.target_list",
    # kernel/workqueue.c
    "workqueues": "workqueue_struct.list",
    "workqueue_struct.pwqs": "pool_workqueue.pwqs_node",
    "worker_pool.workers": "worker.node",
    # include/linux/pci.h, drivers/pci/pci.h
    "pci_root_buses": "pci_bus.node",
    "pci_bus.children": "pci_bus.node",
    "pci_bus.devices": "pci_dev.bus_list",
    "pci_bus.slots": "pci_slot.list",
    "pci_bus.resources": "pci_bus_resource.list",
    # include/linux/pnp.h, drivers/pnp/base.h
    "pnp_global": "pnp_dev.global_list",
    "pnp_protocols": "pnp_protocol.protocol_list",
    "pnp_dev.resources": "pnp_resource.list",
    # include/acpi/acpi_bus.h, drivers/acpi
    "acpi_device.physical_node_list": "acpi_device_physical_node.node",
    "acpi_device_pnp.ids": "acpi_hardware_id.list",
    # include/linux/device.h, drivers/base/base.h; the klists' links are klist_node.n_node
    "device_private.klist_children.k_list": "device_private.knode_parent.n_node",
    "driver_private.klist_devices.k_list": "device_private.knode_driver.n_node",
    "subsys_private.klist_drivers.k_list": "driver_private.knode_bus.n_node",
    "dev_links_info.suppliers": "device_link.c_node",
    "dev_links_info.consumers": "device_link.s_node",
    "kset.list": "kobject.entry",
    "wakeup_sources": "wakeup_source.entry",
    # Files, mounts, namespaces: fs/super.c, net/core/net_namespace.c
    "super_blocks": "super_block.s_list",
    "net_namespace_list": "net.list",
    "net.dev_base_head": "net_device.dev_list",
    "inet6_dev.addr_list": "inet6_ifaddr.if_list",
    # include/linux/backing-dev.h
    "bdi_list": "backing_dev_info.bdi_list",
    "backing_dev_info.wb_list": "bdi_writeback.bdi_node",
    # kernel/cgroup
    "cgroup_roots": "cgroup_root.root_list",
    "cgroup.cset_links": "cgrp_cset_link.cset_link",
    "css_set.cgrp_links": "cgrp_cset_link.cgrp_link",
    # kernel/trace
    "event_subsystems": "event_subsystem.list",
    "ftrace_trace_arrays": "trace_array.list",
    "trace_array.systems": "trace_subsystem_dir.list",
    "trace_array.events": "trace_event_file.list",
    # Others.
    "input_dev_list": "input_dev.node",  # drivers/input/input.c
    "irq_domain_list": "irq_domain.link",  # kernel/irq/irqdomain.c
    "tty_drivers": "tty_driver.tty_drivers",  # drivers/tty/tty_io.c
    "shrinker_list": "shrinker.list",  # mm/shrinker.c
    "slab_caches": "kmem_cache.list",  # mm/slab_common.c
    "init_task.tasks": "task_struct.tasks",  # include/linux/sched/signal.h
    "mem_cgroup.objcg_list": "obj_cgroup.list",  # mm/memcontrol.c
    "map_entries": "firmware_map_entry.list",  # drivers/firmware/memmap.c
}
# Structs that others begin with: a member that tells which, the variable or function it is then,
# and the struct and its member that it is part of. As drivers/base/core.c: device_release() and
# lib/kobject.c: kobject_cleanup() find the function that frees the object.
CONTAINERS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "kobject": (
        ("ktype", "device_ktype", "device.kobj"),
        ("ktype", "module_ktype", "module_kobject.kobj"),
        ("ktype", "driver_ktype", "driver_private.kobj"),
        ("ktype", "bus_ktype", "subsys_private.subsys.kobj"),
        ("ktype", "class_ktype", "subsys_private.subsys.kobj"),
        ("ktype", "dynamic_kobj_ktype", "kobject"),
        ("ktype", "kset_ktype", "kset.kobj"),
        ("ktype", "irq_kobj_type", "irq_desc.kobj"),
        ("ktype", "memmap_ktype", "firmware_map_entry.kobj"),
        ("ktype", "iommu_group_ktype", "iommu_group.kobj"),
        ("ktype", "pci_slot_ktype", "pci_slot.kobj"),
        ("ktype", "class_dir_ktype", "class_dir.kobj"),
        ("ktype", "ktype_cdev_dynamic", "cdev.kobj"),
        ("ktype", "slab_ktype", "kmem_cache.kobj"),
    ),
    "device": (
        ("bus", "pci_bus_type", "pci_dev.dev"),
        ("bus", "acpi_bus_type", "acpi_device.dev"),
        ("bus", "serio_bus", "serio.dev"),
        ("bus", "memory_subsys", "memory_block.dev"),
        ("bus", "node_subsys", "node.dev"),
        ("bus", "pmu_bus", "device"),
        ("bus", "wq_subsys", "wq_device.dev"),
        ("class", "net_class", "net_device.dev"),
        ("class", "pcibus_class", "pci_bus.dev"),
        ("class", "rtc_class", "rtc_device.dev"),
        ("class", "devlink_class", "device_link.link_dev"),
        ("type", "input_dev_type", "input_dev.dev"),
        ("release", "platform_device_release", "platform_object.pdev.dev"),
        ("release", "pci_release_host_bridge_dev", "pci_host_bridge.dev"),
        ("release", "device_create_release", "device"),
        ("release", "tty_device_create_release", "device"),
    ),
}
