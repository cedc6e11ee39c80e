# SPDX-License-Identifier: Apache-2.0
"""The filter language of the views: terms, all of which must hold.

kmalloc               a name of the row contains it, upper or lower case
"two words"           the same, with spaces
/^kmalloc-\\d+$/       a name matches the regular expression
live > 1M             comparisons of a column: < <= = != >= >
module ~ nvme         a column contains, or matches a /regex/; !~ for does not
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
_COMPARE: dict[str, Callable[..., np.ndarray]] = {
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


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def find_column(columns: Sequence[Column], name: str) -> Column:
    """A column by its name or heading, or by the only one that begins so."""
    wanted = name.casefold()
    for column in columns:
        if wanted in (column.name, column.heading.casefold()):
            return column
    found = [column for column in columns if column.name.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(column.name for column in found or columns)
    problem = "the beginning of more than one column" if found else "no column here; there are"
    raise UsageError(f"{name!r} is {problem}: {names}")


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


def _regex(token: _Token) -> re.Pattern[str]:
    try:
        return re.compile(token.text[1:-1], re.IGNORECASE)
    except re.error as error:
        raise UsageError(f"filter: {token.text} is no regular expression: {error}") from None


def _matcher(token: _Token) -> Callable[[str], object]:
    if token.kind == "regex":
        return _regex(token).search
    wanted = token.text.strip('"').casefold()
    return lambda text: wanted in text.casefold()


def _number(text: str, column: Column) -> float:
    units = _UNITS.get(column.unit, _COUNTS)
    match = _NUMBER.fullmatch(text)
    if match is None or match[2].lower() not in units:
        known = " ".join(filter(None, units))
        raise UsageError(
            f"filter: {text!r} is no value of {column.name}; give a number"
            + (f", with {known} or nothing behind it" if known else "")
        )
    return float(match[1]) * units[match[2].lower()]


def _texts(table: Table, column: Column) -> list[str]:
    return ["" if value is None else str(value) for value in table.values(column.name).tolist()]


def _compared(table: Table, name: str, sign: str, token: _Token) -> np.ndarray:
    column = find_column(table.view.columns, name)
    if column.kind == Kind.HISTORY:
        raise UsageError(f"filter: {column.name} has many values; compare another column")
    if sign in ("~", "!~"):
        match = _matcher(token)
        found = np.array([bool(match(text)) for text in _texts(table, column)], bool)
        return found if sign == "~" else ~found
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


def mask(text: str, table: Table) -> np.ndarray:
    """Which rows of a table a filter lets through. Raises UsageError with one clear line."""
    tokens = _tokens(text)
    kept = np.ones(len(table), bool)
    labels = [column for column in table.columns if column.kind == Kind.LABEL and not column.unit]
    while tokens:
        token = tokens.pop(0)
        if token.kind == "word" and tokens and tokens[0].kind == "sign":
            sign = tokens.pop(0).text
            if not tokens or tokens[0].kind == "sign":
                raise UsageError(f"filter: a value is missing behind {token.text} {sign}")
            kept &= _compared(table, token.text, sign, tokens.pop(0))
        elif token.kind == "sign":
            raise UsageError(f"filter: a column is missing before {token.text}")
        else:
            match = _matcher(token)
            found = np.zeros(len(table), bool)
            for column in labels:
                found |= np.array([bool(match(t)) for t in _texts(table, column)], bool)
            kept &= found
    return kept
