# SPDX-License-Identifier: Apache-2.0
"""Compile and load in a child process, attach in this one, and own every descriptor."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost
from slabmon.kernel.bpf import syscall
from slabmon.kernel.programs import BY_NAME, Direction, attachments

if TYPE_CHECKING:
    from slabmon.kernel.planning.plan import Plan

# Maps of every plan. Those of single programs are in the table of programs.
MAPS = ("shared", "pool", "caches", "unobserved_frees", "events", "walks")
# The index of the pool (bpf/pool.h).
TAG_MAPS, HASH_MAPS = ("tags",), ("samples", "free_indices")
STACK_MAPS = ("stacks", "stack_totals")
PROCESS_MARKS = "process_marks"
# Pages and per-CPU memory by call path (bpf/blocks.h).
PATHS, PAGE_BLOCKS, BLOCK_FILTER = "paths", "page_blocks", "block_filter"
PERCPU_BLOCKS = "percpu_blocks"
# Probes of drivers (bpf/probes.h).
DRIVER_PROBES, PROBING = "driver_probes", "probing"
DMA_DEVICES, DMA_BLOCKS = "dma_devices", "dma_blocks"  # bpf/dma.h
STACK_COPY_RING = "stack_copies"  # bpf/stack_copies.h
_TIMEOUT = 120.0
_DESCRIPTORS = 256
_END_SECONDS = 1.0
# What Python, libstdc++ and LLVM write when they get no memory.
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "out of memory", os.strerror(errno.ENOMEM))


def map_names(plan: Plan) -> tuple[str, ...]:
    """Return the maps that a plan needs."""
    names = MAPS + (TAG_MAPS if plan.defines["HAVE_TAGS"] else HASH_MAPS)
    names += (PROCESS_MARKS,) if plan.defines["HAVE_PROCESS_TREE"] else ()
    names += STACK_MAPS if plan.settings.stack_frames else ()
    names += (PATHS,) if plan.defines["HAVE_BLOCKS"] else ()
    names += (PAGE_BLOCKS, BLOCK_FILTER) if plan.defines["HAVE_PAGE_SITES"] else ()
    names += (STACK_COPY_RING,) if plan.defines["HAVE_STACK_COPIES"] else ()
    names += (DRIVER_PROBES, PROBING) if plan.defines["HAVE_DRIVER_PROBES"] else ()
    names += (DMA_DEVICES, DMA_BLOCKS) if plan.defines["HAVE_DMA"] else ()
    names += (PERCPU_BLOCKS,) if plan.defines["HAVE_PERCPU"] else ()
    names += tuple(name for spec in plan.attached for name in spec.maps)
    return tuple(dict.fromkeys(names))


class Compiler:
    """The compile child. Started early, it imports bcc while facts are still being gathered."""

    def __init__(self) -> None:
        self._channel, child_end = socket.socketpair()
        self._channel.settimeout(_TIMEOUT)
        with child_end:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "slabmon.kernel.loading.compile_child",
                    str(child_end.fileno()),
                ],
                pass_fds=(child_end.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )

    def start(self, plan: Plan) -> None:
        """Have the child compile and load the programs of a plan."""
        request = {
            "source": "slabmon.bpf.c",
            "defines": dict(plan.defines),
            "functions": dict.fromkeys((*plan.attach.values(), *plan.run), ("", 0))
            | {program: (hook.kind, hook.btf_id) for program, hook in plan.hooks.items()},
            "maps": map_names(plan),
            "kfuncs": [value for name, value in plan.defines.items() if name.startswith("KFUNC_")],
        }
        self.request(request)

    def request(self, request: Mapping[str, object]) -> None:
        """Send the child a request (see compile_child)."""
        try:
            self._channel.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise self._failed(f"the compile process did not start: {error}") from error

    def finish(self) -> Programs:
        """Wait for the child and take over its descriptors.

        Raises UnsupportedHost or PermissionDenied if this host cannot load the programs.
        """
        try:
            message, descriptors, _, _ = socket.recv_fds(self._channel, 1 << 16, 64)
        except OSError as error:
            raise self._failed(f"the compile process did not answer: {error}") from error
        if not message:
            raise self._failed("the compile process ended early")
        answer = json.loads(message)
        if "error" in answer:
            raise self._failed(answer["error"])
        return Programs(
            {name: descriptors[i] for name, i in answer["maps"].items()},
            {name: descriptors[i] for name, i in answer["programs"].items()},
            answer["instructions"],
            refused=answer["refused"],
        )

    def _failed(self, problem: str) -> SlabmonError:
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may just be ending
            self._process.wait(_END_SECONDS)
        killed = self._process.returncode == -signal.SIGKILL
        self._process.kill()
        assert self._process.stderr is not None
        output = self._process.stderr.read().decode("utf-8", "replace").strip()
        if "No module named 'bcc'" in output or "libbcc" in output:
            return UnsupportedHost("bcc is not installed; run: apt-get install python3-bpfcc")
        if killed or any(text in problem + output for text in _OUT_OF_MEMORY):
            return UnsupportedHost(
                "out of memory: the process that compiles the BPF programs was killed or got no "
                "memory; it takes up to 200 MiB for a second: raise the memory limit of the "
                "service (MemoryMax=) or container, or free memory on the host"
            )
        if os.strerror(errno.EPERM) in problem + output:
            # What bcc says of a map that it may not make is that it cannot compile.
            step = f" ({problem})" if os.strerror(errno.EPERM) in problem else ""
            return PermissionDenied(
                f"the kernel refused BPF to this process{step}; run as root with CAP_BPF and "
                "CAP_PERFMON (before 5.11 CAP_SYS_RESOURCE too), outside a restricted container"
            )
        if os.strerror(errno.ENOSYS) in problem + output:
            return UnsupportedHost(
                "there is no bpf() here: the kernel is built without CONFIG_BPF_SYSCALL, or a "
                "sandbox (seccomp, gVisor) hides it; run slabmon on the host's own kernel, with a "
                "seccomp profile that allows bpf()"
            )
        if os.strerror(errno.EMFILE) in problem + output:
            return UnsupportedHost(
                f"too many open files: the programs need up to {_DESCRIPTORS} descriptors; raise "
                "the limit (ulimit -n, LimitNOFILE=)"
            )
        lines = output.splitlines()
        detail = f" ({'; '.join(lines[-60:])})" if lines else ""
        return SlabmonError(f"BPF programs could not be built: {problem}{detail}")

    def close(self) -> None:
        """End the child if it still runs."""
        self._channel.close()
        self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def __enter__(self) -> Compiler:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Programs:
    """Loaded maps and programs and their attachments, as descriptors by name.

    `instructions` are program sizes. Links are named after their event, or the program of a hook.
    """

    def __init__(
        self,
        maps: dict[str, int],
        programs: dict[str, int],
        instructions: dict[str, int],
        links: dict[str, int] | None = None,
        refused: Mapping[str, str] | None = None,
    ) -> None:
        self.maps = maps
        self.programs = programs
        self.instructions = instructions
        self._links = links or {}
        self._refused = refused or {}

    def objects(self) -> dict[str, int]:
        """Return all descriptors by kind and name, such as map-pool, attachments last."""
        kinds = {"map": self.maps, "program": self.programs, "link": self._links}
        return {
            f"{kind}-{name}": descriptor
            for kind, descriptors in kinds.items()
            for name, descriptor in descriptors.items()
        }

    @property
    def attached_events(self) -> Set[str]:
        """The events that programs are attached to, and the programs of attached hooks."""
        return self._links.keys()

    def attach(self, plan: Plan, events: Set[str], required: bool) -> dict[str, str]:
        """Attach to these events of the plan, those of frees first, so that no free of a tracked
        object is missed. Return the reasons of failures by event.

        Raises UnsupportedHost instead if the events are `required`.
        """
        failed = {}
        frees = attachments(Direction.FREE)
        for event in sorted(events, key=lambda event: (event not in frees, event)):
            try:
                self._links[event] = syscall.attach(self.programs[plan.attach[event]], event)
            except OSError as error:
                if required:
                    raise UnsupportedHost(
                        f"the kernel refused to attach to the tracepoint {event}: {error}"
                    ) from error
                failed[event] = f"cannot attach: {error.strerror}"
        return failed

    def attach_hooks(self, plan: Plan) -> dict[str, str]:
        """Attach the programs that hook kernel functions, those of frees and of exits first: an
        exit without its entry does no harm. Of two programs of one feature both are attached, or
        none. Return the reasons of failures."""
        failed: dict[str, str] = {}
        frees = attachments(Direction.FREE)
        missing = plan.hooks.keys() - self._links.keys()

        def turn(program: str) -> tuple[bool, bool, str]:
            return program not in frees, plan.hooks[program].kind == "fentry", program

        for program in sorted(missing, key=turn):
            feature = BY_NAME[program].feature
            other = next((name for name in failed if BY_NAME[name].feature == feature), None)
            if other:
                failed[program] = failed[other]
                continue
            if program not in self.programs:
                failed[program] = self._refused.get(program, "refused before the restart")
                continue
            try:
                tail_calls = BY_NAME[program].tail_calls
                if tail_calls:
                    syscall.set_tail_call(self.maps[tail_calls], self.programs[program])
                self._links[program] = syscall.attach(self.programs[program])
            except OSError as error:
                failed[program] = f"cannot attach: {error.strerror}"
        off = {BY_NAME[program].feature for program in failed}
        self.detach({program for program in plan.hooks if BY_NAME[program].feature in off})
        return failed

    def detach(self, events: Set[str]) -> None:
        """Detach from these events; those that are not attached do not matter."""
        for event in events & self._links.keys():
            os.close(self._links.pop(event))

    @contextlib.contextmanager
    def attached(self, event: str, function: str) -> Iterator[None]:
        """Attach one program for the length of a with block."""
        link = syscall.attach(self.programs[function], event)
        try:
            yield
        finally:
            os.close(link)

    def close(self) -> None:
        """Detach and unload everything."""
        for descriptor in (*self._links.values(), *self.programs.values(), *self.maps.values()):
            os.close(descriptor)
        self._links, self.programs, self.maps = {}, {}, {}

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
