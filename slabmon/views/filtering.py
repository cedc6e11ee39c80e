# SPDX-License-Identifier: Apache-2.0
"""The filter language of the views: terms, all of which must hold.

kmalloc               a name in the row contains this, ignoring case
"two words"           the same, with spaces
/^kmalloc-\\d+$/       a name matches this regular expression, ignoring case
live > 1M             compares a column: < <= = != >= >
module ~ nvme         a column contains this, or matches a /regex/; !~ negates

Regular expressions have RE2's syntax: as Python's, without look-around and back-references. They
come from the network, and RE2 matches in time linear in the text, whatever the expression.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from slabmon.base.arrays import Bool
from slabmon.base.errors import UsageError
from slabmon.base.units import BYTES, BYTES_PER_HOUR, BYTES_PER_SECOND, PERCENT, SECONDS
from slabmon.views.columns import Column, Kind

if TYPE_CHECKING:
    from slabmon.views.table import Table

_TOKEN = re.compile(
    r"""\s*(?:(?P<regex>/(?:[^/\\]|\\.)*/)|(?P<quoted>"[^"]*")|(?P<sign><=|>=|!=|!~|[<>=~])
    |(?P<word>[^\s<>=!~"/][^\s<>=!~"]*|/|!))""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([a-zA-Z%]*)")
_COMPARE: dict[str, Callable[..., Bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}
_SIZES = {
    "": 1,
    "b": 1,
    **{
        letter + end: 1024**power
        for power, letter in enumerate("kmgt", 1)
        for end in ("", "b", "ib")
    },
}
_COUNTS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}
_TIMES = {"": 1, "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
_UNITS: dict[str, dict[str, float]] = {
    BYTES: _SIZES,
    BYTES_PER_SECOND: _SIZES,
    BYTES_PER_HOUR: _SIZES,
    SECONDS: _TIMES,
    PERCENT: {"": 1, "%": 0.01},
}
_UNSUPPORTED = "; look-around and back-references are not supported"


@dataclass(frozen=True)
class _Token:
    kind: str  # regex, quoted, sign or word: a group of _TOKEN
    text: str


def find_column(columns: Sequence[Column], name: str) -> Column:
    """Return the column with this name or heading, or the only one whose name begins with it.

    Raises UsageError if there is none, or more than one.
    """
    wanted = name.casefold()
    for column in columns:
        if wanted in (column.name, column.heading.casefold()):
            return column
    matches = [column for column in columns if column.name.startswith(wanted)]
    if len(matches) == 1:
        return matches[0]
    names = ", ".join(column.name for column in matches or columns)
    problem = "ambiguous column" if matches else "unknown column"
    raise UsageError(f"{problem} {name!r}: expected one of {names}")


def _tokens(text: str) -> list[_Token]:
    tokens, end = [], 0
    while text[end:].strip():
        match = _TOKEN.match(text, end)
        if match is None:
            raise UsageError(f"filter: cannot read {text[end:].strip()!r}")
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match[kind]))
        end = match.end()
    return tokens


def _regex(token: _Token) -> Callable[[str], object]:
    try:
        import re2  # only here: few filters have one
    except ImportError:
        raise UsageError(
            "filter: regular expressions need the Python package google-re2 (Debian: python3-re2)"
        ) from None
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        search = re2.compile(_utf8(token.text[1:-1]), options).search
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
        hint = "" if "(?" not in reason and "escape" not in reason else _UNSUPPORTED
        raise UsageError(f"filter: bad regular expression {token.text}: {reason}{hint}") from None
    return lambda text: search(_utf8(text))


def _utf8(text: str) -> bytes:
    """Encode for RE2, which is much faster with bytes. Arguments can hold what is not UTF-8."""
    return text.encode(errors="backslashreplace")


def _matcher(token: _Token) -> Callable[[str], object]:
    if token.kind == "regex":
        return _regex(token)
    wanted = token.text.strip('"').casefold()
    return lambda text: wanted in text.casefold()


def _number(text: str, column: Column) -> float:
    units = _UNITS.get(column.unit, _COUNTS)
    match = _NUMBER.fullmatch(text)
    if match is None or match[2].lower() not in units:
        known = " ".join(filter(None, units))
        raise UsageError(
            f"filter: bad value {text!r} for {column.name}: expected a number"
            + (f", optionally followed by one of {known}" if known else "")
        )
    return float(match[1]) * units[match[2].lower()]


def _texts(table: Table, column: Column) -> list[str]:
    return ["" if value is None else str(value) for value in table.values(column.name).tolist()]


def _compared(table: Table, name: str, sign: str, token: _Token) -> Bool:
    column = find_column(table.view.columns, name)
    if column.kind == Kind.HISTORY:
        raise UsageError(f"filter: {column.name} cannot be compared, because it has many values")
    if sign in ("~", "!~"):
        match = _matcher(token)
        rows = np.array([bool(match(text)) for text in _texts(table, column)], bool)
        return rows if sign == "~" else ~rows
    wanted = token.text.strip('"')
    if column.kind == Kind.FLAG:
        if wanted.casefold() not in ("yes", "no", "true", "false") or sign not in ("=", "!="):
            raise UsageError(f"filter: {column.name} is yes or no; compare with = or !=")
        yes = wanted.casefold() in ("yes", "true")
        return _COMPARE[sign](table.values(column.name).astype(bool), yes)
    values = table.values(column.name)
    if values.dtype == object:
        if sign not in ("=", "!="):
            raise UsageError(f"filter: {column.name} is text; compare with = != ~ or !~")
        return _COMPARE[sign](np.array(_texts(table, column), object), wanted).astype(bool)
    number = _number(wanted, column)
    return np.asarray(_COMPARE[sign](values, number) & ~np.isnan(values.astype(float)))


def mask(text: str, table: Table) -> Bool:
    """Return which rows of a table pass a filter. Raises UsageError with one clear line."""
    tokens = _tokens(text)
    selected = np.ones(len(table), bool)
    labels = [
        column
        for column in table.columns
        if column.kind == Kind.LABEL and column.searched and not column.unit
    ]
    while tokens:
        token = tokens.pop(0)
        if token.kind == "word" and tokens and tokens[0].kind == "sign":
            sign = tokens.pop(0).text
            if not tokens or tokens[0].kind == "sign":
                raise UsageError(f"filter: a value is missing after {token.text} {sign}")
            selected &= _compared(table, token.text, sign, tokens.pop(0))
        elif token.kind == "sign":
            raise UsageError(f"filter: a column is missing before {token.text}")
        else:
            match = _matcher(token)
            rows = np.zeros(len(table), bool)
            for column in labels:
                rows |= np.array([bool(match(t)) for t in _texts(table, column)], bool)
            selected &= rows
    return selected
