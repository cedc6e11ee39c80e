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
# A body that took this long to render rests for a multiple of that time before the next one.
_SLOW_SECONDS, _REST = 0.1, 2


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
    """A cached body; `at` is when it was rendered (boottime()), `seconds` how long that took."""

    number: int
    problem: str
    at: float
    seconds: float
    body: Body

    def fresh(self, number: int, problem: str, now: float) -> bool:
        """Return whether the body still answers a request for this reading."""
        age = now - self.at
        if self.problem != problem:
            return False
        if self.seconds > _SLOW_SECONDS and age <= _REST * self.seconds:
            return True
        return self.number >= number and age <= SHARED_SECONDS


class Renderer:
    """Caches the newest body of each content type until there is a newer reading, and at most
    SHARED_SECONDS, for bodies hold the age of their reading.

    A body that took long to render is served for longer, so that clients cannot keep the process
    busy with rendering.
    """

    def __init__(self) -> None:
        self._cache: dict[str, _Rendered] = {}

    def body(self, kind: str, now: Now, render: Callable[[Now], bytes]) -> Body:
        """Return the body of the content type `kind`, rendered now if the cached one is old."""
        number = now.reading.number if now.reading else 0
        cached = self._cache.get(kind)
        if cached and cached.fresh(number, now.problem, boottime()):
            return cached.body
        self._cache.pop(kind, None)  # frees its memory before `render` needs some
        del cached
        start = time.monotonic()
        body = Body(kind, render(now))
        if len(self._cache) >= _MAX_KINDS:
            self._cache.clear()
        seconds = time.monotonic() - start
        self._cache[kind] = _Rendered(number, now.problem, boottime(), seconds, body)
        return body
