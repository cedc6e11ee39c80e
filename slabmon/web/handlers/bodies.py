# SPDX-License-Identifier: Apache-2.0
"""Response bodies, rendered once per reading however many clients ask."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from slabmon.base.clock import boottime
from slabmon.web.feeds.readings import SHARED_SECONDS, Now

# A bound on cached bodies, whatever content types clients accept.
_MAX_KINDS = 16
# After a body that took this long to render, those that are there are served for a multiple of that
# time, if they are no older than _OLD_SECONDS.
_SLOW_SECONDS, _REST, _OLD_SECONDS = 0.1, 2, 5.0


@dataclass(frozen=True)
class Body:
    """A rendered response body; `compressible` unless it is compressed itself."""

    content_type: str
    data: bytes
    compressible: bool = True

    @cached_property
    def compressed(self) -> bytes:
        """The body as gzip."""
        return gzip.compress(self.data, 5, mtime=0)

    def compress(self) -> None:
        """Compress the body now, for the answers that need it later."""
        _ = self.compressed

    @cached_property
    def etag(self) -> str:
        """A weak entity tag, the same for both encodings."""
        return f'W/"{hashlib.blake2b(self.data, digest_size=12).hexdigest()}"'


class _Rendered(NamedTuple):
    """A cached body; `at` is when it was rendered (boottime()), `rested` until when it is served
    because that took long."""

    number: int
    problem: str
    at: float
    rested: float
    body: Body

    def fresh(self, number: int, problem: str, now: float, rested: float) -> bool:
        """Return whether the body still answers a request for this reading, while all bodies rest
        until `rested`."""
        age = now - self.at
        if self.problem != problem:
            return False
        if now <= self.rested or (now <= rested and age <= _OLD_SECONDS):
            return True
        return self.number >= number and age <= SHARED_SECONDS


class Renderer:
    """Caches the newest body of each content type until there is a newer reading, and at most
    SHARED_SECONDS, for bodies hold the age of their reading.

    After a body that took long to render all are served for longer, so that clients cannot keep
    the process busy with rendering, and none waits until several were rendered.
    """

    def __init__(self) -> None:
        self._cache: dict[str, _Rendered] = {}
        self._rested = 0.0  # all rest until then (boottime())

    def body(self, kind: str, now: Now, render: Callable[[Now], bytes]) -> Body:
        """Return the body of the content type `kind`, rendered now if the cached one is old."""
        number = now.reading.number if now.reading else 0
        cached = self._cache.get(kind)
        if cached and cached.fresh(number, now.problem, boottime(), self._rested):
            return cached.body
        self._cache.pop(kind, None)  # frees its memory before `render` needs some
        del cached
        start = time.monotonic()
        body = Body(kind, render(now))
        if len(self._cache) >= _MAX_KINDS:
            self._cache.clear()
        at, seconds = boottime(), time.monotonic() - start
        rested = at + _REST * seconds if seconds > _SLOW_SECONDS else 0.0
        self._rested = max(self._rested, rested)
        self._cache[kind] = _Rendered(number, now.problem, at, rested, body)
        return body
