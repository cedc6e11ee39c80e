# SPDX-License-Identifier: Apache-2.0
"""Which caches may have series of their own, and which always have, by the configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING

from slabmon.base.errors import UsageError
from slabmon.base.names import with_near_names

if TYPE_CHECKING:
    from slabmon.export.series import SeriesValues
    from slabmon.model import Cache


def patterns(option: str, text: str) -> tuple[str, ...]:
    """Return comma-separated patterns, `option` being the setting they are from. Raises UsageError
    if one is empty."""
    parts = tuple(part.strip() for part in text.split(",")) if text.strip() else ()
    if not all(parts):
        raise UsageError(
            f"{option}: expected names or patterns, such as kmalloc-*, separated by commas, got "
            f"{text!r}"
        )
    return parts


class _Patterns:
    """Patterns as in a shell: * ? and [...]. One matches a cache by its name, an alias or its
    family."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._match = re.compile("|".join(map(translate, texts)) or r"(?!)").match

    def select(self, cache: Cache) -> bool:
        return any(map(self._match, (cache.name, cache.family, *cache.aliases)))


@dataclass(frozen=True)
class CacheChoice:
    """Patterns of caches: only `include` have series of their own (empty: all), `exclude` have
    none, and `pin` have them whatever they hold. The others are summed as `other`."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    pin: tuple[str, ...] = ()

    def scores(self, caches: Iterable[Cache], scores: SeriesValues) -> SeriesValues:
        """Return the scores of the caches that may have series; those of pinned ones are the
        highest."""
        if not (self.include or self.exclude or self.pin):
            return scores
        include, exclude, pin = map(_Patterns, (self.include or ("*",), self.exclude, self.pin))
        chosen: SeriesValues = {}
        for cache in caches:
            labels = (cache.name,)
            if pin.select(cache):
                chosen[labels] = math.inf
            elif include.select(cache) and not exclude.select(cache):
                chosen[labels] = scores[labels]
        return chosen

    def unmatched(self, caches: Sequence[Cache]) -> Iterator[str]:
        """Yield what to say of each pattern that no cache matches now: a name may be mistyped, or
        belong to a module that is not loaded yet."""
        names = {name for cache in caches for name in (cache.name, cache.family, *cache.aliases)}
        for setting in ("include", "exclude", "pin"):
            for text in getattr(self, setting):
                if not any(map(_Patterns((text,)).select, caches)):
                    problem = f"web.cache_{setting}: no cache matches {text!r} now"
                    yield with_near_names(problem, text, names, "slabmon snapshot lists all")


EVERY_CACHE = CacheChoice()
