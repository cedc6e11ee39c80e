# SPDX-License-Identifier: Apache-2.0
"""The filter of exact mode in its text form."""

from __future__ import annotations

from dataclasses import dataclass

from slabmon.base.errors import UsageError

FILTER_KEYS = ("cache", "family", "module", "site", "min_size", "max_size", "cgroup", "pid")
_NUMBERS = ("min_size", "max_size", "pid")
_TOGETHER = (
    ("module", "site", "a site has its module"),
    ("cache", "family", "a family has all its caches"),
)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Criteria that an allocation must all meet.

    `cache` is a name or an alias; `family` all kinds of one kmalloc size, such as kmalloc-64.
    `site` is a function, with an offset or without, and with the module in brackets or without.
    Sizes are requested bytes, both inclusive. `cgroup` is a path from the root, which includes
    what is below it. `pid` is a process with all its threads. `process_tree`, which has no text
    form, is a process with all that it and its descendants start from now on.
    """

    cache: str | None = None
    family: str | None = None
    module: str | None = None
    site: str | None = None
    min_size: int | None = None
    max_size: int | None = None
    cgroup: str | None = None
    pid: int | None = None
    process_tree: int | None = None

    @property
    def function(self) -> str:
        """The function of `site`, with its number where several have its name."""
        return (self.site or "").partition(" [")[0].partition("+")[0]

    @property
    def offset(self) -> str:
        """What is behind the function's name in `site`, of the form OFFSET or OFFSET/SIZE."""
        return (self.site or "").partition(" [")[0].partition("+")[2]

    @property
    def site_module(self) -> str:
        """The module in `site`, empty if it names none."""
        return (self.site or "").partition(" [")[2].removesuffix("]")

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Return the filter written as `key=value[,key=value]`. Raises UsageError if it is not."""
        values: dict[str, str | int] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            key, equals, value = part.partition("=")
            if key not in FILTER_KEYS or not equals or not value:
                raise UsageError(
                    f"filter {part!r}: expected KEY=VALUE with a key of {', '.join(FILTER_KEYS)}"
                )
            if key in values:
                raise UsageError(f"filter key {key!r} is given twice; give it once")
            if key in _NUMBERS:
                if not value.isdecimal() or len(value) > 12 or int(value) == 0:
                    unit = "process ID" if key == "pid" else "number of bytes"
                    raise UsageError(f"filter {part!r}: expected a positive {unit}, got {value!r}")
                values[key] = int(value)
            else:
                values[key] = value
        if not values:
            raise UsageError("the filter is empty; give KEY=VALUE, for example cache=kmalloc-64")
        result = cls(**values)  # type: ignore[arg-type]
        if result.min_size and result.max_size and result.min_size > result.max_size:
            raise UsageError("filter: min_size is above max_size; nothing can match")
        for one, other, reason in _TOGETHER:
            if one in values and other in values:
                raise UsageError(f"filter: {one} and {other} cannot be combined; {reason}")
        return result
