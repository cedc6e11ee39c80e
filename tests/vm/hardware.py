# SPDX-License-Identifier: Apache-2.0
"""Emulated machines and the devices that can be added to them, as arguments of qemu."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_EVERY = ("-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot")
_CMDLINE = "loglevel=5 panic=-1 mitigations=off audit=0 apparmor=0 selinux=0 random.trust_cpu=on"


@dataclass(frozen=True)
class Machine:
    """What guests of one architecture have in common; `root` is one of kernels.toml."""

    arguments: tuple[str, ...]
    cmdline: str
    root: str


MACHINES: Mapping[str, Machine] = {
    "amd64": Machine(
        ("qemu-system-x86_64", "-M", "q35", "-cpu", "max", *_EVERY),
        f"console=ttyS0 no_timer_check tsc=reliable {_CMDLINE}",
        "bookworm",
    ),
    "arm64": Machine(
        # Signing pointers as the architecture says takes most of the time under emulation.
        ("qemu-system-aarch64", "-M", "virt", "-cpu", "max,pauth-impdef=on", *_EVERY),
        f"console=ttyAMA0 {_CMDLINE}",
        "bookworm-arm64",
    ),
}

# Extra hardware by name, for tests of drivers that manage devres.
DEVICES: Mapping[str, tuple[str, ...]] = {
    "ahci": (
        "-blockdev",
        "null-co,size=67108864,read-zeroes=on,node-name=disk0",
        "-device",
        "ich9-ahci,id=sata",
        "-device",
        "ide-hd,drive=disk0,bus=sata.0",
    ),
    "xhci": ("-device", "qemu-xhci,id=xhci", "-device", "usb-kbd,bus=xhci.0"),
    "nvme": (
        "-blockdev",
        "null-co,size=67108864,read-zeroes=on,node-name=disk1",
        "-device",
        "nvme,serial=planted,drive=disk1",
    ),
    "e1000e": ("-netdev", "hubport,id=net0,hubid=0", "-device", "e1000e,netdev=net0"),
    "sound": (
        "-audiodev",
        "none,id=audio0",
        "-device",
        "intel-hda",
        "-device",
        "hda-duplex,audiodev=audio0",
    ),
    "sdhci": ("-device", "sdhci-pci"),
    "watchdog": ("-device", "i6300esb", "-action", "watchdog=none"),
}


def emulation(*, skip_idle: bool) -> tuple[str, ...]:
    """How processors are emulated. With `skip_idle` the guest's time is that of its instructions,
    4 ns each, and jumps to the next timer when all processors are idle: a day at rest takes less
    than an hour. One thread emulates all of them then."""
    if skip_idle:
        return ("-accel", "tcg,thread=single,tb-size=1024", "-icount", "shift=2,sleep=off")
    return ("-accel", "tcg,thread=multi,tb-size=1024")


def shared(tag: str, path: Path, *, writable: bool) -> list[str]:
    """A directory of this machine that a guest mounts over 9p by its tag."""
    access = "off" if writable else "on"
    return [
        "-fsdev",
        f"local,id={tag},path={path},security_model=none,readonly={access},multidevs=remap",
        "-device",
        f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
    ]


def numa(cpus: int, nodes: int, memory_mib: int) -> list[str]:
    """Arguments that spread processors and memory over NUMA nodes evenly."""
    arguments: list[str] = []
    for node in range(nodes):
        size = memory_mib // nodes
        arguments += ["-object", f"memory-backend-ram,id=node{node},size={size}M"]
        processors = f"{cpus * node // nodes}-{cpus * (node + 1) // nodes - 1}"
        arguments += ["-numa", f"node,nodeid={node},cpus={processors},memdev=node{node}"]
    return arguments


def disk(name: str, image: Path) -> list[str]:
    """An image that a guest can only read."""
    blockdev = f"driver=file,filename={image},node-name={name},read-only=on"
    return ["-blockdev", blockdev, "-device", f"virtio-blk-pci,drive={name}"]
