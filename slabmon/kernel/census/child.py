# SPDX-License-Identifier: Apache-2.0
"""The process that takes a census, and ends with it.

Run with the number of a pipe's descriptor and a JSON object of settings as arguments. It writes
one msgpack document to the pipe: Answer. What it read stays in its memory, which is never dumped.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from dataclasses import dataclass

import msgspec

from slabmon.base.errors import SlabmonError
from slabmon.census.model import Census
from slabmon.kernel.census.settings import CensusSettings

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _SIGKILL = 1, 4, 9
_NICENESS = 10


@dataclass(frozen=True)
class Answer:
    """The census, or what went wrong and the exit code that stands for it."""

    census: Census | None = None
    error: str = ""
    exit_code: int = 70


def confine(settings: CensusSettings) -> None:
    """Yield to others, allow no core dump, bound memory, and end with the parent."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory = settings.memory_mib << 20
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def answer(settings: CensusSettings) -> Answer:
    """Take a census."""
    from slabmon.kernel.census import memory
    from slabmon.kernel.census.collect import take
    from slabmon.kernel.census.layout import Layout
    from slabmon.kernel.probe import btf

    try:
        with memory.start_compiler() as compiler:
            confine(settings)
            layout = Layout.of(btf.read_vmlinux())
            programs = compiler.finish()
        with programs:
            kernel = memory.KernelMemory(programs, memory.Budget(settings.cpu_seconds))
            return Answer(census=take(kernel, layout))
    except SlabmonError as error:
        return Answer(error=str(error), exit_code=error.exit_code)
    except MemoryError:
        return Answer(
            error=f"census: {settings.memory_mib} MiB of memory do not suffice for the slabs of "
            "this host; allow more with --memory-mib"
        )


def main() -> int:
    """Answer on the pipe."""
    settings = msgspec.json.decode(sys.argv[2], type=CensusSettings)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        document = msgspec.msgpack.encode(answer(settings))
        with os.fdopen(int(sys.argv[1]), "wb") as pipe:
            pipe.write(document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
