# SPDX-License-Identifier: Apache-2.0
"""The texts of help, and of all figures of one row. `python -m slabmon.top.help` writes
docs/views.md."""

from __future__ import annotations

import sys
import textwrap

from slabmon.base.format import human
from slabmon.tui.browser import SORT_LETTERS, Browser, letter_column
from slabmon.views.catalogue import VIEWS
from slabmon.views.cells import texts
from slabmon.views.view import View

_KEY_WIDTH, _INDENT = 18, 4
KEYS = (
    ("j k up down", "move; g G home end, page up, page down: further; left right: other columns"),
    (
        "enter",
        "open what belongs to the row: sites of a cache, stacks of a site, resources of a "
        "device; all figures where nothing does",
    ),
    ("escape backspace", "back; at the top of a view: no filter"),
    ("tab, shift+tab", "next view; below a row, the next thing that belongs to it"),
    ("1 to 9", "view by its number"),
    ("i", "all figures of the row, exactly, and what they mean"),
    ("/", "filter"),
    ("a b c l v n o p s u", "order by a column, see below; again: the other way round"),
    ("space", "pause the display; moving, ordering and opening go on"),
    ("m", "mark: show differences from now on; M: no mark"),
    ("e", "export what is shown: NAME.csv or NAME.json"),
    ("t", "jump to a time in the past, or to now; [ and ] a minute back and on"),
    ("?", "this help"),
    ("ctrl+p", "all commands by name, ordering by any column"),
    ("q", "quit"),
    ("mouse", "click a heading to order, a row to select, again to open, a view to see it"),
)
FILTERS = (
    ("kmalloc", "a name of the row contains it"),
    ('"two words"', "the same, with spaces"),
    ("/^kmalloc-[0-9]+$/", "a name matches the regular expression"),
    ("live > 1M", "comparison: < <= = != >= > with K M G T, in seconds also ms m h d, or %"),
    ("module ~ nvme", "a column contains; !~ does not; a /regex/ is possible too"),
)
MARKS = (
    (
        "at most",
        "upper end of the 95 % interval of a sampled live figure; where no sample is, up "
        "to 3.7 sampling intervals can be unseen",
    ),
    (
        "?",
        "behind a live figure: objects of this cache can be freed without any event, so that "
        "the figure is an upper bound and no sign of a leak",
    ),
    ("-", "not known, or nothing to be known"),
)


def _list(title: str, pairs: tuple[tuple[str, str], ...], width: int) -> list[str]:
    wide = min(max(len(key) for key, _ in pairs), _KEY_WIDTH)
    return [title, *(_wrapped(f"  {key:{wide}}  ", text, width) for key, text in pairs), ""]


def _wrapped(key: str, text: str, width: int) -> str:
    """A key and its text in lines of at most this width, the further ones indented."""
    return textwrap.fill(text, width, initial_indent=key, subsequent_indent=" " * _INDENT)


def letters(view: View) -> tuple[tuple[str, str], ...]:
    """Sort letters that mean something in a view, and the column."""
    found = [(letter, letter_column(view, letter)) for letter in sorted((*SORT_LETTERS, "n"))]
    return tuple((letter, column.name) for letter, column in found if column is not None)


def help_text(view: View, width: int) -> str:
    """The help for a view, in lines of at most this width."""
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
    """All figures of a row: as people read them, exactly, and what they mean."""
    table = browser.table
    (cells,), (shown,) = table.cells([row], table.columns), texts(table, [row], table.columns)
    lines = [f"{browser.crumbs} > {browser.name(row)}", ""]
    for column, value, text in zip(table.columns, cells, shown, strict=True):
        if column.name == "stack":
            lines += ["stack, innermost last", *(f"    {f}" for f in text.split(";")), ""]
            continue
        exact = "" if human(value, "") == text or value is None else f" ({human(value, 'count')})"
        lines += [f"{column.name}: {text}{exact}", _wrapped("    ", column.help, width)]
    return "\n".join(lines)


def markdown() -> str:
    """docs/views.md."""
    lines = [
        "# Views and columns",
        "",
        "Made from `slabmon/views/catalogue.py` by `make docs`. Counters count since tracking "
        "began; rates are over the last interval, growth and history over at most 10 minutes. "
        "Bytes of live memory are exact or sampled, as the tracking mode is. "
        "Sort letters are slabtop's.",
        "",
    ]
    for view in VIEWS.values():
        lines += [
            f"## {view.name}",
            "",
            f"{view.title[0].upper()}{view.title[1:]}.",
            "",
            "| column | heading | unit | kind | what |",
            "|---|---|---|---|---|",
        ]
        for column in view.columns:
            lines.append(
                f"| `{column.name}` | {column.heading} | {column.unit or 'text'} | "
                f"{column.kind} | {column.help} |"
            )
        named = ", ".join(f"{letter} `{name}`" for letter, name in letters(view))
        opened = ", ".join(link.title for link in view.links)
        lines += ["", f"Sort letters: {named}. A row opens: {opened or 'all its figures'}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(markdown())
