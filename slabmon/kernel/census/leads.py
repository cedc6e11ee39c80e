# SPDX-License-Identifier: Apache-2.0
"""What heads of lists, pointers to anything, and variables lead to, where the kernel's source says
it and no type does. A struct or member that a kernel does not have leads nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from slabmon.kernel.census.members import Structs

# The head of a list, and the link of what is in it.
_LISTS: Mapping[str, str] = {
    "acpi_device.physical_node_list": "acpi_device_physical_node.node",  # drivers/acpi/glue.c
    "acpi_device.pnp.ids": "acpi_hardware_id.list",  # drivers/acpi/scan.c
    "module.source_list": "module_use.source_list",  # kernel/module/main.c
    "module.target_list": "module_use.target_list",
    "pci_bus.resources": "pci_bus_resource.list",  # drivers/pci/bus.c
    "pnp_dev.resources": "pnp_resource.list",  # drivers/pnp/resource.c
    "worker_pool.workers": "worker.node",  # kernel/workqueue.c
}
# A member that can point to anything, and the structs to one of which it points, often.
_ANYTHING: Mapping[str, Sequence[str]] = {
    "acpi_device.handle": ("acpi_namespace_node",),  # drivers/acpi/acpica/nsxfname.c
    "kthread.data": ("worker", "kthread_worker"),  # kernel/workqueue.c, kernel/kthread.c
    "task_struct.set_child_tid": ("kthread",),  # kernel/kthread.c, up to 5.16
    "task_struct.worker_private": ("kthread",),  # kernel/kthread.c
}
# A variable that points, or an array of pointers, to objects of a struct.
_VARIABLES: Mapping[str, str] = {
    "chrdevs": "char_device_struct",  # fs/char_dev.c
    "ftrace_pages_start": "ftrace_page",  # kernel/trace/ftrace.c
    "major_names": "blk_major_name",  # block/genhd.c
}


class Element(NamedTuple):
    """What is in a list: the struct, and the offset of its link in bytes."""

    struct: int
    link: int


class Leads:
    """The same as structs of this kernel, by the name of the member or variable."""

    def __init__(self, structs: Structs) -> None:
        self.elements: dict[str, Element] = {}
        for head, member in _LISTS.items():
            name, _, path = member.partition(".")
            struct = structs.find(name)
            link = structs.offset(struct, path)
            if link is not None:
                self.elements[head] = Element(struct, link)
        self.pointees = {
            member: tuple(filter(None, map(structs.find, names)))
            for member, names in _ANYTHING.items()
        }
        self.variables = {
            name: struct for name, text in _VARIABLES.items() if (struct := structs.find(text))
        }
