# SPDX-License-Identifier: Apache-2.0
"""Compiles and loads in a child, attaches here, and owns every descriptor until close()."""

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
from types import TracebackType
from typing import TYPE_CHECKING

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost
from slabmon.kernel.bpf import syscall

if TYPE_CHECKING:
    from slabmon.kernel.planning.plan import Plan

MAPS = (
    "shared",
    "kmalloc_lanes",
    "cache_alloc_lanes",
    "kfree_lanes",
    "cache_free_lanes",
    "pool",
    "caches",
    "unobserved_frees",
    "events",
    "walks",
)
# The index of the pool (bpf/pool.h).
TAG_MAPS, HASH_MAPS = ("tags",), ("samples", "free_indices")
PAGE_MAPS = ("page_alloc_lanes", "page_free_lanes")
# Maps of the programs attached to functions: their lanes, and where they find themselves.
HOOK_MAPS = {
    "on_bulk_alloc": ("bulk_alloc_lanes", "bulk_alloc_next"),
    "on_bulk_free": ("bulk_free_lanes", "bulk_free_next"),
    "on_rcu_free": ("rcu_free_lanes",),
}
_TIMEOUT = 120.0
_END_SECONDS = 1.0
# What Python, libstdc++ and LLVM write when they get no memory.
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "out of memory", os.strerror(errno.ENOMEM))


def map_names(plan: Plan) -> tuple[str, ...]:
    """The maps a plan needs."""
    names = MAPS + (TAG_MAPS if plan.defines["HAVE_TAGS"] else HASH_MAPS)
    names += PAGE_MAPS if plan.settings.pages else ()
    names += ("stacks", "stack_totals") if plan.settings.stack_frames else ()
    return names + tuple(name for program in plan.hooks for name in HOOK_MAPS[program])


class Compiler:
    """The compile child. Started early, it imports bcc while facts are still being gathered."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "slabmon.kernel.loading.compile_child",
                    str(theirs.fileno()),
                ],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        ours.settimeout(_TIMEOUT)
        self._channel = ours

    def start(self, plan: Plan) -> None:
        """Has the child compile and load what the plan names."""
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
        """Waits for the child and takes over what it loaded."""
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

    def _failed(self, what: str) -> SlabmonError:
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may just be ending
            self._process.wait(_END_SECONDS)
        killed = self._process.returncode == -signal.SIGKILL
        self._process.kill()
        assert self._process.stderr is not None
        output = self._process.stderr.read().decode("utf-8", "replace").strip()
        if "No module named 'bcc'" in output or "libbcc" in output:
            return UnsupportedHost("bcc is not installed; run: apt-get install python3-bpfcc")
        if killed or any(text in what + output for text in _OUT_OF_MEMORY):
            return UnsupportedHost(
                "out of memory: the process that compiles the BPF programs was killed or got no "
                "memory; it takes up to 200 MiB for a second: raise the memory limit of the "
                "service (MemoryMax=) or container, or free memory on the host"
            )
        if os.strerror(errno.EPERM) in what + output:
            return PermissionDenied(
                f"the kernel refused BPF to this process ({what}); run as root with CAP_BPF, "
                "CAP_PERFMON and CAP_SYS_RESOURCE, outside a restricted container"
            )
        lines = output.splitlines()
        detail = f" ({'; '.join(lines[-60:])})" if lines else ""
        return SlabmonError(f"BPF programs could not be built: {what}{detail}")

    def close(self) -> None:
        """Ends the child if it is still there."""
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
    """Loaded maps and programs, and the attachments made of them."""

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
        """All descriptors, by kind and name, attachments last."""
        kinds = {"map": self.maps, "program": self.programs, "link": self._links}
        return {f"{kind}-{n}": fd for kind, found in kinds.items() for n, fd in found.items()}

    @property
    def attached_events(self) -> Set[str]:
        """The events programs are attached to."""
        return self._links.keys()

    def attach(self, plan: Plan, events: Set[str], required: bool) -> dict[str, str]:
        """Attaches these of the plan's events; returns why some failed, unless `required`."""
        failed = {}
        for event in sorted(events):
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
        """Attaches the programs that watch kernel functions; returns why some are not."""
        failed = {}
        for program in plan.hooks.keys() - self._links.keys():
            if program not in self.programs:
                failed[program] = self._refused.get(program, "refused before the restart")
                continue
            try:
                for name in HOOK_MAPS[program][1:]:
                    syscall.set_tail_call(self.maps[name], self.programs[program])
                self._links[program] = syscall.attach(self.programs[program])
            except OSError as error:
                failed[program] = f"cannot attach: {error.strerror}"
        return failed

    def detach(self, events: Set[str]) -> None:
        """Ends the attachments to these events, those that there are."""
        for event in events & self._links.keys():
            os.close(self._links.pop(event))

    @contextlib.contextmanager
    def attached(self, event: str, function: str) -> Iterator[None]:
        """Attaches one program for the length of a with block."""
        link = syscall.attach(self.programs[function], event)
        try:
            yield
        finally:
            os.close(link)

    def close(self) -> None:
        """Detaches and unloads everything."""
        for descriptor in (*self._links.values(), *self.programs.values(), *self.maps.values()):
            os.close(descriptor)
        self._links, self.programs, self.maps = {}, {}, {}

    def __enter__(self) -> Programs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
