# SPDX-License-Identifier: Apache-2.0
"""Boot one guest, run one command in it, bring back what it said.

The host side of guest/init.sh: they share the work directory, which the guest
sees as /vm. Use `run_guest`; everything it needs is prepared and cached.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vm import config, initramfs, kmod, roots, trees
from tests.vm.complaints import complaints
from tests.vm.hardware import DEVICES, MACHINES, disk, emulation, numa, shared
from tests.vm.host import VmError, cache_dir, lock, log, require_host

GUEST = Path(__file__).resolve().parent / "guest"
PLANTED = "opt/planted"
MEMORY_MIB = 4096  # of a guest
KEEP_RUNS = 24  # more than ever wait for their turn, each with its directory prepared


@dataclass(frozen=True)
class GuestResult:
    """What came back from a guest that ended by itself."""

    kernel: str
    release: str
    exit_code: int
    output: str
    dmesg: str
    console: str
    work: Path
    seconds: float


def run_guest(
    kernel: str,
    command: str,
    *,
    cpus: int = 2,
    nodes: int = 1,
    memory_mib: int = MEMORY_MIB,
    kernel_arguments: str = "",
    devices: Sequence[str] = (),
    systemd: bool = False,
    debug_info: bool = False,
    skip_idle: bool = False,
    root: str | None = None,
    share: Path | None = None,
    timeout: float = 900,
    stream: bool = False,
    guests: int = 1,
) -> GuestResult:
    """Run a shell script as root in a guest with the checkout at /opt/slabmon.

    `devices` names entries of DEVICES; their stock drivers are loaded first. `kernel_arguments`
    are added to the kernel's command line.
    `root` is one of kernels.toml, if not its machine's own. With `debug_info` the guest has its
    kernel's DWARF; it finds `share` at /vm/share. With `systemd` the script runs as the only job
    of a booted system, else directly. With `skip_idle` waiting takes no time (see emulation()).
    Raises VmError when the guest does not end by itself in `timeout` seconds, or its kernel
    complained; a failing command is not an error but an exit code. As many as `guests` run at a
    time: one keeps a core busy.
    """
    unknown = sorted(set(devices) - set(DEVICES))
    if unknown:
        raise VmError(f"no device {', '.join(unknown)}; known: {', '.join(DEVICES)}")
    job = _prepare(kernel, root, debug_info)
    if share is not None:
        shutil.copytree(share, job.work / "share", symlinks=True)
    (job.work / "command").write_text(command + "\n")
    _write_settings(job, "systemd" if systemd else "command", devices)
    console = job.work / "console"
    machine = _qemu(job, cpus, nodes, memory_mib, devices, kernel_arguments, skip_idle)
    arguments = [*machine, "-serial", f"file:{console}"]
    with lock("running", "waiting for another guest to end", guests):
        log(f"booting {job.tree.release}")
        start = time.monotonic()
        in_time, said = _boot(arguments, job.work / "output" if stream else None, timeout)
    exit_code = _text(job.work / "exit").strip()
    if not exit_code:
        # A crash leaves no exit file: the console has the last words.
        tail = "\n".join((_text(job.work / "output") + _text(console) + said).splitlines()[-60:])
        how = "died" if in_time else f"did not finish in {timeout:.0f} s and was stopped"
        raise VmError(f"{job.tree.release} {how}; files in {job.work}; last words:\n{tail}")
    result = GuestResult(
        kernel=kernel,
        release=job.tree.release,
        exit_code=int(exit_code),
        output=_text(job.work / "output"),
        dmesg=_text(job.work / "dmesg"),
        console=_text(console),
        work=job.work,
        seconds=time.monotonic() - start,
    )
    wrong = complaints(result.dmesg.splitlines() + result.console.splitlines())
    if wrong:
        raise VmError(
            f"{result.release}: the kernel log says that something is wrong; files in "
            f"{result.work}; exit code {result.exit_code}\n" + "\n".join(wrong)
        )
    return result


def _boot(arguments: Sequence[str], output: Path | None, timeout: float) -> tuple[bool, str]:
    """Runs a guest to its end; whether it ended in time, and what the emulator had to say."""
    with subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            in_time = _follow(process, output, timeout)
        finally:
            process.kill()
        return in_time, process.stdout.read().decode(errors="replace") if process.stdout else ""


def shell(
    kernel: str,
    *,
    cpus: int = 2,
    nodes: int = 1,
    memory_mib: int = MEMORY_MIB,
    kernel_arguments: str = "",
    devices: Sequence[str] = (),
) -> int:
    """A root shell in a guest on this terminal; leaving the shell powers off."""
    job = _prepare(kernel)
    _write_settings(job, "shell", devices)
    serial = ["-chardev", "stdio,id=tty,signal=off", "-serial", "chardev:tty"]
    with lock("running", "waiting for another guest to end"):
        log(f"booting {job.tree.release}; `exit` powers off")
        machine = _qemu(job, cpus, nodes, memory_mib, devices, kernel_arguments)
        return subprocess.run(machine + serial, check=False).returncode


@dataclass(frozen=True)
class _Job:
    tree: trees.KernelTree
    debug: Path | None
    root: Path
    initrd: Path
    work: Path


def _prepare(kernel: str, root: str | None = None, debug_info: bool = False) -> _Job:
    require_host()
    with lock("lock", "waiting for another run to finish preparing the cache"):
        locked = config.locked(kernel)
        root = root or MACHINES[locked.kernel.architecture].root
        tree = trees.prepare(locked)
        debug = trees.debug_info(locked) if debug_info else None
        plain = roots.base(root)
        initrd = initramfs.build(tree, plain / "bin" / "busybox")
        module = kmod.build(tree)
        installed = roots.installed(root)
        where = _new_work(kernel)
        where.mkdir(parents=True, exist_ok=True)
    project = where / "project"
    roots.copy_project(project / roots.INSTALLED_AT)
    shutil.copytree(module, project / PLANTED)
    shutil.copy2(GUEST / "init.sh", where / "init")
    shutil.copy2(GUEST / "job.sh", where / "job")
    return _Job(tree, debug, installed, initrd, where)


def _new_work(kernel: str) -> Path:
    """A directory for one run; those of the last few runs stay, to look into failures."""
    runs = cache_dir() / "runs"
    runs.mkdir(exist_ok=True)
    for old in sorted(runs.iterdir(), key=lambda path: path.stat().st_mtime)[: -KEEP_RUNS + 1]:
        shutil.rmtree(old, ignore_errors=True)
    stamp = time.strftime("%m%d-%H%M%S")
    for number in range(100):
        path = runs / f"{stamp}-{kernel}-{number}"
        if not path.exists():
            path.mkdir()
            return path
    raise VmError(f"cannot name a run in {runs}")


def _write_settings(job: _Job, mode: str, devices: Sequence[str]) -> None:
    (job.work / "settings").write_text(
        f"MODE={mode}\n"
        f"LOAD_DRIVERS={'yes' if devices else ''}\n"
        f"export SLABMON_VM_GUEST={job.tree.locked.kernel.name}\n"
        f"export SLABMON_PLANTED_KO=/{PLANTED}/{kmod.MODULE}\n"
    )


def _qemu(
    job: _Job,
    cpus: int,
    nodes: int,
    memory_mib: int,
    devices: Sequence[str],
    kernel_arguments: str,
    skip_idle: bool = False,
) -> list[str]:
    layers = {"project": job.work / "project", "kernel": job.tree.run}
    if job.debug is not None:
        layers["debug"] = job.debug
    machine = MACHINES[job.tree.locked.kernel.architecture]
    arguments = [
        *machine.arguments,
        *emulation(skip_idle=skip_idle),
        *("-smp", f"{cpus},sockets={nodes}", "-m", f"{memory_mib}M"),
        *("-kernel", str(job.tree.vmlinuz), "-initrd", str(job.initrd)),
        *("-append", f"{machine.cmdline} layers={':'.join(layers)} {kernel_arguments}".strip()),
    ]
    if nodes > 1:
        arguments += numa(cpus, nodes, memory_mib)
    for name, path in layers.items():
        arguments += shared(name, path, writable=False)
    arguments += shared("work", job.work, writable=True)
    arguments += disk("root", job.root)
    for name in devices:
        arguments += DEVICES[name]
    return roots.emulator(arguments, job.work)


def _follow(process: subprocess.Popen[bytes], output: Path | None, timeout: float) -> bool:
    """Wait for the guest to end, copying its output meanwhile; False when time ran out."""
    deadline = time.monotonic() + timeout
    shown = 0
    ended = late = False
    while not (ended or late):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
            ended = True
        late = time.monotonic() > deadline
        if output is not None:
            text = _text(output)
            sys.stdout.write(text[shown:])
            sys.stdout.flush()
            shown = len(text)
    return ended


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
