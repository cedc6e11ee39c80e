# SPDX-License-Identifier: Apache-2.0
"""Modules and built-in drivers."""

from __future__ import annotations

from slabmon.analysis.drivers import Driver, drivers
from slabmon.model import CORE_KERNEL, NO_DRIVER, Site
from tests.support.builders import Object, cache, device, site, snapshot, tracked

SITES = (
    site("virtnet_poll", 8, component="virtio_net", allocs=3, allocated_bytes=300),
    site("__virtnet_open", 8, component="virtio_net", allocs=2, allocated_bytes=200),
    site("ext4_alloc_inode", 8, component="ext4", allocs=1, allocated_bytes=1000),
    site("load_msg", 8, allocs=1, allocated_bytes=64),
    site("nvme_probe", 8, "nvme", allocs=1, allocated_bytes=128),
)
DEVICES = (
    device(
        "virtio",
        "virtio2",
        driver="virtio_net",
        module=None,
        resources=1,
        managed_bytes=10,
        slab_bytes=64,
    ),
    device("pci", "0000:00:01.0", driver="nvme", module="nvme", resources=2, managed_bytes=80),
    device("acpi", "VMGENCTR:00", driver=None, module=None, resources=1, managed_bytes=8),
)
OBJECTS = [Object(site=0), Object(site=1), Object(site=3), Object(site=4)]


def test_functions_of_a_built_in_driver_are_with_its_devices() -> None:
    """A kernel without modules is more than one row."""
    host = snapshot(caches=(cache(),), sites=SITES, devices=DEVICES, tracked=tracked(OBJECTS))
    groups = drivers(host)
    rows: dict[tuple[bool, str], Driver] = {row.key: row for row in groups.rows}
    assert set(rows) == {
        (True, "virtio_net"),
        (True, "ext4"),
        (True, CORE_KERNEL),
        (True, NO_DRIVER),
        (False, "nvme"),
    }
    row = rows[True, "virtio_net"]
    assert (row.sites, row.allocs, row.allocated_bytes) == (2, 5, 500)
    assert (row.devices, row.managed_bytes, row.slab_bytes) == (1, 10, 64)
    assert (row.live.objects, row.live.bytes) == (2, 128)
    assert sum(row.allocs for row in rows.values()) == sum(each.allocs for each in SITES)


def test_a_module_is_no_component() -> None:
    both: Site = site("nvme_probe", 8, "nvme", component=None)
    assert both.owner == (False, "nvme")
    assert site("nvme_probe", 8, component="nvme").owner == (True, "nvme")


def test_a_site_is_written_as_the_kernel_does_in_a_trace() -> None:
    assert site("load_msg", 0x4C, size=0x110).traced_label == "load_msg+0x4c/0x110"
    assert site("copy#3", 0x4C, "card", size=0x110).traced_label == "copy+0x4c/0x110 [card]"
    assert site("gone", 0x4C).traced_label == "gone+0x4c"


def test_dma_memory_is_summed_where_the_kernel_tells_it() -> None:
    cards = (
        device("pci", "a", driver="nvme", module="nvme", dma_bytes=4096),
        device("pci", "b", driver="nvme", module="nvme", dma_bytes=8192),
        device("pci", "c", driver="other", module="other"),
    )
    rows = {row.name: row for row in drivers(snapshot(devices=cards, sites=())).rows}
    assert (rows["nvme"].dma_bytes, rows["other"].dma_bytes) == (12288, None)
