# SPDX-License-Identifier: Apache-2.0
"""What the filter of exact mode selects in kernel text."""

from __future__ import annotations

from slabmon.base.errors import UsageError
from slabmon.kernel.settings import Filter
from slabmon.kernel.symbols.kallsyms import Symbols


def filtered_text(wanted: Filter | None, symbols: Symbols) -> tuple[int, int]:
    """A filter's site or module as a range [start, end) of kernel text; (0, 0) for neither."""
    if wanted and wanted.module:
        found = symbols.module_range(wanted.module)
        if found is None:
            raise UsageError(f"filter: no module {wanted.module!r} is loaded; see lsmod")
        return found
    if not wanted or not wanted.site:
        return 0, 0
    name, plus, offset = wanted.site.partition("+")
    found = symbols.function_range(name)
    if found is None:
        raise UsageError(
            f"filter: no kernel function is called {name!r}; "
            "the sites view of a snapshot and /proc/kallsyms list names"
        )
    if not plus:
        return found
    try:
        start = found[0] + int(offset, 0)
    except ValueError:
        raise UsageError(f"filter: site {wanted.site!r} is not SYMBOL or SYMBOL+OFFSET") from None
    return start, start + 1
