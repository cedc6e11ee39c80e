# SPDX-License-Identifier: Apache-2.0
"""Response bodies, rendered once per reading however many clients ask."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from slabmon.web.feeds.readings import SHARED_SECONDS, Now

# A bound on cached bodies, whatever content types clients accept.
_MAX_KINDS = 16


@dataclass(frozen=True)
class Body:
    """A rendered response body."""

    content_type: str
    data: bytes

    @cached_property
    def compressed(self) -> bytes:
        """The body as gzip."""
        return gzip.compress(self.data, 5, mtime=0)

    @cached_property
    def etag(self) -> str:
        """A weak entity tag, the same for both encodings."""
        return f'W/"{hashlib.blake2b(self.data, digest_size=12).hexdigest()}"'


class Renderer:
    """Caches the newest body of each content type until there is a newer reading, and at most
    SHARED_SECONDS, for bodies hold the age of their reading."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[tuple[int, str], float, Body]] = {}

    def body(self, kind: str, now: Now, render: Callable[[Now], bytes]) -> Body:
        """Return the body of the content type `kind`, rendered now if the cached one is old."""
        key = (now.reading.number if now.reading else 0, now.problem)
        kept = self._kept.get(kind)
        if kept and kept[0] == key and time.monotonic() - kept[1] <= SHARED_SECONDS:
            return kept[2]
        self._kept.pop(kind, None)  # frees its memory before `render` needs some
        del kept
        body = Body(kind, render(now))
        if len(self._kept) >= _MAX_KINDS:
            self._kept.clear()
        self._kept[kind] = key, time.monotonic(), body
        return body
