# SPDX-License-Identifier: Apache-2.0
"""Help, and the text of all figures of a row. `python -m slabmon.tui.help` prints docs/views.md."""

from __future__ import annotations

import sys
import textwrap

from slabmon.base.format import human
from slabmon.tui.browser import SORT_LETTERS, Browser, letter_column
from slabmon.views.catalogue import VIEWS
from slabmon.views.cells import texts
from slabmon.views.columns import ALIASES
from slabmon.views.view import View

_KEY_WIDTH, _INDENT = 18, 4
KEYS = (
    (
        "j k up down",
        "move; g G home end: first, last row; page up, down; left right: other columns",
    ),
    (
        "enter",
        "open what belongs to the row: sites of a cache, stacks of a site, resources of a "
        "device; else all figures",
    ),
    ("escape backspace", "back; at the top of a view: clear the filter"),
    ("tab, shift+tab", "next, previous view; inside a row: of what belongs to it"),
    ("0 to 9", "view by its number"),
    ("i", "all figures of the row, exact and explained"),
    ("/", "filter"),
    ("a b c l v n o p s u", "sort by a column, see below; again: reverse the order"),
    ("space", "pause the display; moving, sorting and opening still work"),
    ("m", "mark: show differences from now on; M: totals again"),
    ("e", "export what is shown: NAME.csv or NAME.json"),
    ("t", "jump to a time in the past, or to now; [ ] one minute back, forward"),
    ("?", "this help"),
    ("ctrl+p", "all commands by name, and sorting by any column"),
    ("q, ctrl+z", "quit; suspend, `fg` resumes"),
    ("mouse", "click a heading to sort, a row to select it, again to open it, a view to show it"),
)
FILTERS = (
    ("kmalloc", "a name in the row contains this"),
    ('"two words"', "the same, with spaces"),
    ("/^kmalloc-[0-9]+$/", "a name matches this regular expression"),
    ("live > 1M", "comparison: < <= = != >= >; units K M G T, of times ms s m h d, or %"),
    ("module ~ nvme", "a column contains this, or matches a /regex/; !~ does not"),
)
MARKS = (
    (
        "at most",
        "upper bound of the 95 % confidence interval of a sampled live figure; without samples "
        "it is 3.7 sampling intervals",
    ),
    (
        "?",
        "after a live figure: objects can be freed without an event, so that the figure is an "
        "upper bound and not a sign of a leak",
    ),
    ("-", "unknown or not applicable"),
)


def _list(title: str, pairs: tuple[tuple[str, str], ...], width: int) -> list[str]:
    wide = min(max(len(key) for key, _ in pairs), _KEY_WIDTH)
    return [title, *(_wrapped(f"  {key:{wide}}  ", text, width) for key, text in pairs), ""]


def _wrapped(key: str, text: str, width: int) -> str:
    """Return a key and its text in lines of at most this width, continuation lines indented."""
    return textwrap.fill(text, width, initial_indent=key, subsequent_indent=" " * _INDENT)


def letters(view: View) -> tuple[tuple[str, str], ...]:
    """Return the sort letters of a view and their columns."""
    columns = [(letter, letter_column(view, letter)) for letter in sorted((*SORT_LETTERS, "n"))]
    return tuple((letter, column.name) for letter, column in columns if column is not None)


def help_text(view: View, width: int) -> str:
    """Return the help for a view, in lines of at most this width."""
    columns = tuple((column.name, column.help) for column in view.columns)
    return "\n".join(
        [
            *_list("Keys", KEYS, width),
            *_list(f"Sort letters in {view.origin or view.name}", letters(view), width),
            *_list("Filters, all of which must hold", FILTERS, width),
            *_list("Marks", MARKS, width),
            *_list(f"Columns: {view.title}", columns, width),
        ]
    )


def row_text(browser: Browser, row: int, width: int) -> str:
    """Return all figures of a row, rounded and exact, with explanations."""
    table = browser.table
    (cells,), (shown,) = table.cells([row], table.columns), texts(table, [row], table.columns)
    lines = [f"{browser.crumbs} > {browser.name(row)}", ""]
    for column, value, text in zip(table.columns, cells, shown, strict=True):
        if column.name == "stack":
            lines += ["stack, innermost last", *(f"    {f}" for f in text.split(";")), ""]
            continue
        if column.name == ALIASES:
            text = human(value, "")
        exact = "" if human(value, "") == text or value is None else f" ({human(value, 'count')})"
        lines += [f"{column.name}: {text}{exact}", _wrapped("    ", column.help, width)]
    return "\n".join(lines)


def markdown() -> str:
    """Return docs/views.md."""
    lines = [
        "# Views and columns",
        "",
        "Generated from `slabmon/views/catalogue.py` by `make docs`. Counters count since tracking "
        "began; rates are over the last interval, growth and history over at most 10 minutes. "
        "Live memory is exact or sampled, depending on the tracking mode. Sort letters are "
        "slabtop's.",
        "",
    ]
    for view in VIEWS.values():
        lines += [
            f"## {view.name}",
            "",
            f"{view.title[0].upper()}{view.title[1:]}.",
            "",
            "| column | heading | unit | kind | meaning |",
            "|---|---|---|---|---|",
        ]
        for column in view.columns:
            lines.append(
                f"| `{column.name}` | {column.heading} | {column.unit or 'text'} | "
                f"{column.kind} | {column.help} |"
            )
        named = ", ".join(f"{letter} `{name}`" for letter, name in letters(view))
        opened = ", ".join(link.title for link in view.links)
        lines += ["", f"Sort letters: {named}. Enter shows its {opened or 'figures'}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(markdown())
