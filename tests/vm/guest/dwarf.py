# SPDX-License-Identifier: Apache-2.0
"""The running kernel as drgn sees it: through /proc/kcore, by the kernel's DWARF, which a guest has
that was started with --debug-info."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import drgn
else:
    drgn = pytest.importorskip("drgn", reason="drgn has no package for this architecture")

VMLINUX = Path(f"/usr/lib/debug/boot/vmlinux-{os.uname().release}")
needs_debug_info = pytest.mark.skipif(not VMLINUX.exists(), reason="started without --debug-info")


def program() -> drgn.Program:
    """Open the running kernel."""
    opened = drgn.Program()
    opened.set_kernel()
    with suppress(drgn.MissingDebugInfoError):  # of modules, which nothing here needs
        opened.load_debug_info([str(VMLINUX)], main=True)
    return opened


def devices(kernel: drgn.Program) -> Iterator[drgn.Object]:
    """Yield every registered device: those of devices_kset (drivers/base/core.c)."""
    from drgn.helpers.linux.list import list_for_each_entry

    head = kernel["devices_kset"].list.address_of_()
    for kobject in list_for_each_entry("struct kobject", head, "entry"):
        yield drgn.container_of(kobject, "struct device", "kobj")


def subsystem(device: drgn.Object) -> str:
    """Return the name of a device's bus, else of its class, else ""."""
    found = device.bus or getattr(device, "class")
    return found.name.string_().decode() if found else ""


def name(device: drgn.Object) -> str:
    """Return a device's name."""
    text: str = device.kobj.name.string_().decode()
    return text
