# SPDX-License-Identifier: Apache-2.0
"""Functions of built-in drivers, file systems and subsystems."""

from __future__ import annotations

from pathlib import Path

import pytest

from slabmon.kernel.probe.components import Components

NAMES = ("ext4", "nvme", "nvme_core", "xhci_hcd", "virtio_net", "virtio-pci", "e1000e", "overlay")


@pytest.mark.parametrize(
    ("symbol", "component"),
    [
        ("ext4_alloc_inode", "ext4"),
        ("__ext4_new_inode", "ext4"),
        ("ext4", None),
        ("ext40_open", None),
        ("nvme_probe", "nvme"),
        ("nvme_core_init", "nvme_core"),
        ("xhci_alloc_dev", "xhci_hcd"),
        ("xhci_hcd_init", "xhci_hcd"),
        ("virtnet_poll", "virtio_net"),
        ("vp_find_vqs", "virtio-pci"),
        ("virtio_pci_probe", "virtio-pci"),
        ("e1000e_open.isra.0#2", "e1000e"),
        ("ovl_alloc_inode", "overlay"),
        ("copy_process", None),
        ("load_msg", None),
        ("[unknown]", None),
        ("<rust_binder::thread::Thread>::new", "rust_binder"),
        ("kernel::alloc::kvec::push", None),
    ],
)
def test_a_function_is_of_the_component_with_its_longest_prefix(
    symbol: str, component: str | None
) -> None:
    assert Components(NAMES).of(symbol) == component


def test_a_host_lists_drivers_file_systems_and_modules(tmp_path: Path) -> None:
    sysfs, proc = tmp_path / "sys", tmp_path / "proc"
    for folder in ("module/loop", "module/kernel", "module/loaded", "bus/pci/drivers/virtio-pci"):
        (sysfs / folder).mkdir(parents=True)
    (sysfs / "module/loaded/initstate").write_text("live\n")
    proc.mkdir()
    (proc / "filesystems").write_text("nodev\tsysfs\n\text4\n")
    (tmp_path / "modules.builtin").write_text("kernel/drivers/block/brd.ko\n")
    host = Components.of_host(sysfs, proc, tmp_path)
    found = [host.of(f"{name}_open") for name in ("loop", "sysfs", "ext4", "brd", "vp")]
    assert found == ["loop", "sysfs", "ext4", "brd", "virtio-pci"]
    assert [host.of(f"{name}_open") for name in ("kernel", "loaded", "nodev")] == [None] * 3


def test_a_host_that_hides_all_has_none(tmp_path: Path) -> None:
    hidden = Components.of_host(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert hidden.of("ext4_alloc_inode") is None
