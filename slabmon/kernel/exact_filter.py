# SPDX-License-Identifier: Apache-2.0
"""The filter of exact mode: which allocations are all tracked, and where they are in text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slabmon.base.errors import UsageError

if TYPE_CHECKING:
    from slabmon.kernel.symbols.kallsyms import Symbols

FILTER_KEYS = ("cache", "module", "site", "min_size", "max_size", "cgroup")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Criteria that an allocation must all meet. Sizes are requested bytes, both inclusive.

    `process_tree` is the ID of a process, which stands for itself and all that it and its
    descendants start from now on.
    """

    cache: str | None = None
    module: str | None = None
    site: str | None = None
    min_size: int | None = None
    max_size: int | None = None
    cgroup: str | None = None
    process_tree: int | None = None

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
            if key.endswith("_size"):
                if not value.isdecimal() or len(value) > 12 or int(value) == 0:
                    raise UsageError(f"filter {part!r}: a size is a positive number of bytes")
                values[key] = int(value)
            else:
                values[key] = value
        if not values:
            raise UsageError("the filter is empty; give KEY=VALUE, for example cache=kmalloc-64")
        result = cls(**values)  # type: ignore[arg-type]
        if result.min_size and result.max_size and result.min_size > result.max_size:
            raise UsageError("filter: min_size is above max_size; nothing can match")
        if result.module and result.site:
            raise UsageError("filter: module and site cannot be combined; a site has its module")
        return result


def filtered_text(exact: Filter | None, symbols: Symbols) -> tuple[int, int]:
    """Return the kernel text [start, end) of a filter's site or module; (0, 0) without either.

    Raises UsageError if the kernel has no such function, or no such module is loaded.
    """
    if exact and exact.module:
        text_range = symbols.module_range(exact.module)
        if text_range is None:
            raise UsageError(f"filter: no module {exact.module!r} is loaded; see lsmod")
        return text_range
    if not exact or not exact.site:
        return 0, 0
    name, plus, offset = exact.site.partition("+")
    text_range = symbols.function_range(name)
    if text_range is None:
        raise UsageError(
            f"filter: no kernel function is called {name!r}; "
            "the sites view of a snapshot and /proc/kallsyms list names"
        )
    if not plus:
        return text_range
    try:
        start = text_range[0] + int(offset, 0)
    except ValueError:
        raise UsageError(f"filter: site {exact.site!r}: expected SYMBOL or SYMBOL+OFFSET") from None
    return start, start + 1
