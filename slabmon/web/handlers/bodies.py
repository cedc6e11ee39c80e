# SPDX-License-Identifier: Apache-2.0
"""Bodies: what clients get, made once per reading however many ask."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from slabmon.web.feeds.readings import SHARED_SECONDS, Now

# Kinds of bodies kept: no client can name more, whatever it puts into Accept.
_MAX_KINDS = 16


@dataclass(frozen=True)
class Body:
    """One rendered body."""

    content_type: str
    data: bytes

    @cached_property
    def compressed(self) -> bytes:
        """As gzip."""
        return gzip.compress(self.data, 5, mtime=0)

    @cached_property
    def etag(self) -> str:
        """A weak one: it is the same for both encodings."""
        return f'W/"{hashlib.blake2b(self.data, digest_size=12).hexdigest()}"'


class Renderer:
    """Keeps the newest body of each kind, as long as no newer reading is there, and no longer
    than readings are shared if it says how old its reading is."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[tuple[int, str], float, Body]] = {}

    def body(self, kind: str, now: Now, render: Callable[[Now], bytes]) -> Body:
        """The body of this content type."""
        key = (now.reading.number if now.reading else 0, now.problem)
        kept = self._kept.get(kind)
        if kept and kept[0] == key and time.monotonic() - kept[1] <= SHARED_SECONDS:
            return kept[2]
        self._kept.pop(kind, None)  # not beside the new one
        del kept
        body = Body(kind, render(now))
        if len(self._kept) >= _MAX_KINDS:
            self._kept.clear()
        self._kept[kind] = key, time.monotonic(), body
        return body
