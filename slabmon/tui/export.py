# SPDX-License-Identifier: Apache-2.0
"""What is shown, into a file."""

from __future__ import annotations

from pathlib import Path

from slabmon.base.errors import UsageError
from slabmon.export.text import rows_to_json, to_csv
from slabmon.tui.browser import Browser

_KINDS = {".csv": to_csv, ".json": rows_to_json}


def write(browser: Browser, path: Path) -> str:
    """Writes the rows that are shown, all columns, to a new file, as its name says; returns what
    was done. UsageError if that cannot be."""
    if path.suffix not in _KINDS:
        raise UsageError("the file's name must end in .csv or .json")
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(_KINDS[path.suffix](browser.table, browser.order))
    except FileExistsError:
        raise UsageError(f"{path} exists; choose another name") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    return f"{len(browser.order):,} rows written to {path}"
