# SPDX-License-Identifier: Apache-2.0
"""The process that takes a census, and ends with it.

Run with the number of a socket's descriptor and a JSON object of settings as arguments; with PAGES
as the third one, no slab is looked into. It sends
messages: LENGTH and then a Report in msgpack, of which the last one holds the census or an error.
What it read stays in its memory, which is never dumped.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from slabmon.base.errors import (
    PermissionDenied,
    SlabmonError,
    UnsupportedHost,
    UsageError,
    of_environment,
)
from slabmon.census.codec import encode
from slabmon.kernel.census.settings import MEMORY_OPTION, CensusSettings
from slabmon.runtime.figures import CensusFailure
from slabmon.runtime.tuning import offer_to_oom_killer

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _SIGKILL = 1, 4, 9
_NICENESS = 10
LENGTH = struct.Struct("!I")
PAGES = "pages"


@dataclass(frozen=True, kw_only=True)
class Report:
    """How far the census is: the share that is done, from 0 to 1. The last report holds the census
    as slabmon.census.codec encodes it, or what went wrong, of which kind that is, and the exit code
    that stands for it."""

    done: float = 0.0
    census: bytes = b""
    error: str = ""
    failure: CensusFailure = CensusFailure.OTHER
    exit_code: int = SlabmonError.exit_code

    def pack(self) -> bytes:
        """Return the message to send."""
        body = msgspec.msgpack.encode(self)
        return LENGTH.pack(len(body)) + body


def confine(settings: CensusSettings) -> None:
    """Yield to others, be the first to go without memory, allow no core dump, bound memory, and end
    with the parent."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    offer_to_oom_killer()  # before this process' files in /proc are root's alone
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory = settings.memory_mib << 20
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def report(
    settings: CensusSettings, send: Callable[[Report], object], *, pages_only: bool = False
) -> Report:
    """Take a census and return the last report; `send` those before it. `pages_only`: it only says
    what each page of memory is."""
    from slabmon.kernel.census import memory
    from slabmon.kernel.census.collect import take, take_pages
    from slabmon.kernel.census.layout import Layout
    from slabmon.kernel.probe import btf

    try:
        with memory.start_compiler() as compiler:
            confine(settings)
            types = btf.read_vmlinux()
            layout = Layout.of(types)
            assert types is not None
            programs = compiler.finish()
        with programs:
            kernel = memory.KernelMemory(programs, memory.Budget(settings.cpu_seconds))

            def progress(share: float) -> None:
                send(Report(done=share))

            if pages_only:
                census = take_pages(kernel, layout, types, progress)
            else:
                census = take(kernel, layout, types, settings, progress)
            return Report(done=1.0, census=encode(census))
    except SlabmonError as error:
        return _failed(error)
    except MemoryError:
        return Report(
            error=f"census: {settings.memory_mib} MiB of memory do not suffice for the slabs of "
            f"this host; allow more with {MEMORY_OPTION}",
            failure=CensusFailure.MEMORY,
            exit_code=UsageError.exit_code,
        )
    except OSError as error:
        environment = of_environment(error)
        if environment is None:
            raise
        return _failed(type(environment)(f"census: {environment}"))


def _failed(error: SlabmonError) -> Report:
    return Report(error=str(error), failure=_failure(error), exit_code=error.exit_code)


def _failure(error: SlabmonError) -> CensusFailure:
    from slabmon.kernel.census.memory import BudgetSpent

    if isinstance(error, BudgetSpent):
        return CensusFailure.CPU
    if isinstance(error, PermissionDenied | UnsupportedHost):
        return CensusFailure.UNSUPPORTED
    return CensusFailure.OTHER


def main() -> int:
    """Report on the socket."""
    settings = msgspec.json.decode(sys.argv[2], type=CensusSettings)
    with (
        contextlib.suppress(KeyboardInterrupt, ConnectionError),
        socket.socket(fileno=int(sys.argv[1])) as channel,
    ):
        last = report(
            settings,
            lambda each: channel.sendall(each.pack()),
            pages_only=sys.argv[3:] == [PAGES],
        )
        channel.sendall(last.pack())
    return 0


if __name__ == "__main__":
    sys.exit(main())
