# SPDX-License-Identifier: Apache-2.0
"""Takes a census in another process."""

from __future__ import annotations

import selectors
from collections.abc import Callable

import msgspec

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost, UsageError
from slabmon.census.codec import decode
from slabmon.census.model import Census
from slabmon.kernel.census.child import LENGTH, PAGES, Report
from slabmon.kernel.census.settings import MEMORY_OPTION, CensusSettings
from slabmon.runtime.figures import CensusFailure
from slabmon.runtime.worker import Worker

_ERRORS = {error.exit_code: error for error in (PermissionDenied, UnsupportedHost, UsageError)}
# Arrays of several MiB go back to the kernel when they are freed, whatever was freed before
# (mallopt(3)).
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20)}
_TICK_SECONDS = 0.1


class CensusProcess(Worker):
    """A process that takes one census: see Worker, then result()."""

    def __init__(self, settings: CensusSettings, *, pages_only: bool = False) -> None:
        """Start it; `pages_only`: it only says what each page of memory is, and looks into no slab.
        Raises OSError if there is no room for another process."""
        arguments = [msgspec.json.encode(settings).decode(), *([PAGES] * pages_only)]
        super().__init__("slabmon.kernel.census.child", arguments, _ENVIRONMENT)
        self._last = Report()

    @property
    def done(self) -> float:
        """The share of the work that is done, from 0 to 1."""
        return self._last.done

    @property
    def failure(self) -> CensusFailure:
        """What kind of error result() raises."""
        return CensusFailure.MEMORY if self._died() and self.killed() else self._last.failure

    def _died(self) -> bool:
        """Return whether it ended without a last report."""
        return not self._last.error and not self._last.census

    def receive(self) -> bool:
        """As Worker's. Raises SlabmonError if what has arrived is malformed."""
        complete = super().receive()
        while len(self.received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self.received)[0]
            if len(self.received) < end:
                break
            message = bytes(self.received[LENGTH.size : end])
            try:
                self._last = msgspec.msgpack.decode(message, type=Report)
            except msgspec.MsgspecError as error:
                raise SlabmonError(f"census: malformed report: {error}") from error
            del self.received[:end]
        return complete

    def result(self) -> bytes:
        """Return the census, encoded. Raises PermissionDenied, UnsupportedHost, UsageError if it
        would use more than the settings allow, and SlabmonError."""
        if self._last.error:
            raise _ERRORS.get(self._last.exit_code, SlabmonError)(self._last.error)
        if self._died() and self.killed():
            raise UnsupportedHost(
                "census: the process that takes it was killed, as the kernel does when memory runs "
                "out; raise the memory limit of the service (MemoryMax=) or container, free memory "
                f"on the host, or let the census use less with {MEMORY_OPTION}"
            )
        if self._died():
            raise SlabmonError(f"census: the process that takes it ended early: {self.ending()}")
        return self._last.census


def take_census(
    settings: CensusSettings,
    progress: Callable[[float], object] = lambda _: None,
    *,
    pages_only: bool = False,
) -> Census:
    """Return a census of the running kernel. Errors are those of CensusProcess.result().

    `progress` is called ten times a second with the share of the work that is done. `pages_only`:
    see CensusProcess.
    """
    with (
        CensusProcess(settings, pages_only=pages_only) as process,
        selectors.DefaultSelector() as selector,
    ):
        selector.register(process.channel, selectors.EVENT_READ)
        while not (selector.select(_TICK_SECONDS) and process.receive()):
            progress(process.done)
        return decode(process.result())
