# SPDX-License-Identifier: Apache-2.0
"""The configuration of `slabmon serve`: a TOML file, and flags, which take precedence.

Every mistake is an error that names the file and key, or the flag, and shows how to write it.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slabmon.base.errors import UsageError
from slabmon.daemon.census_settings import ScheduleSettings
from slabmon.daemon.escalation_settings import EscalationSettings
from slabmon.daemon.options import OPTIONS, TABLES, Option
from slabmon.kernel.settings import Settings
from slabmon.runtime.budget import BudgetSettings
from slabmon.runtime.files import open_regular
from slabmon.runtime.logs import LogSettings
from slabmon.state.settings import StateSettings
from slabmon.store.settings import HistorySettings
from slabmon.web.settings import WebSettings

_KINDS = {str: "text in quotes", bool: "true or false", int: "a whole number", float: "a number"}
_BY_KEY = {option.key: option for option in OPTIONS}
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Config:
    """The whole configuration, checked: a field for each table of options.TABLES."""

    web: WebSettings = field(default_factory=WebSettings)
    tracking: Settings = field(default_factory=Settings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    state: StateSettings = field(default_factory=StateSettings)
    history: HistorySettings = field(default_factory=HistorySettings)
    census: ScheduleSettings = field(default_factory=ScheduleSettings)
    escalation: EscalationSettings = field(default_factory=EscalationSettings)
    log: LogSettings = field(default_factory=LogSettings)

    def value(self, option: Option) -> Any:
        """Return the value of an option."""
        return getattr(getattr(self, option.table), option.name)

    def changes(self, new: Config) -> list[Option]:
        """Return the options whose values differ."""
        return [option for option in OPTIONS if self.value(option) != new.value(option)]

    def reloaded(self, new: Config) -> Config:
        """Return this configuration with the live options of the new one, as SIGHUP applies it."""
        values = {o.key: (new if o.live else self).value(o) for o in OPTIONS}
        return _build(values)


def load(path: Path | None, flags: Mapping[str, str]) -> Config:
    """Return the configuration of a file. `flags`, texts by option key, override its values.

    Raises UsageError.
    """
    values = read_file(path) if path else {}
    if path:
        _build(values, f"{path}: ")  # a mistake in the file is not blamed on a flag
    for key, text in flags.items():
        values[key] = _from_flag(_BY_KEY[key], text)
    return _build(values)


def read_file(path: Path) -> dict[str, Any]:
    """Return the values in a file, by option key. Raises UsageError."""
    try:
        with open(open_regular(path), "rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise UsageError(f"{path} exceeds 1 MiB; this is not a configuration file")
        document = tomllib.loads(data.decode())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    values = {}
    for table, content in document.items():
        if table not in TABLES:
            what = f"table [{table}]" if isinstance(content, dict) else f"key {table} in no table"
            raise UsageError(f"{path}: unknown {what}; {_near(table, TABLES)}")
        if not isinstance(content, dict):
            raise UsageError(f"{path}: {table}: expected a table; write [{table}] above its keys")
        for name, value in content.items():
            option = _BY_KEY.get(f"{table}.{name}")
            if option is None:
                names = [option.name for option in OPTIONS if option.table == table]
                raise UsageError(f"{path}: unknown key {table}.{name}; {_near(name, names)}")
            values[option.key] = _of_type(option, value, f"{path}: {option.key}")
    return values


def _near(wrong: str, known: Any) -> str:
    import difflib  # needed after a mistake only

    close = difflib.get_close_matches(wrong, known, 1)
    return f"did you mean {close[0]}?" if close else f"expected one of {', '.join(sorted(known))}"


def _of_type(option: Option, value: Any, where: str) -> Any:
    if option.type is float and type(value) is int:
        value = float(value)
    if type(value) is not option.type or value != value or value in (math.inf, -math.inf):
        raise UsageError(
            f"{where}: expected {_KINDS[option.type]}, for example {option.name} = {option.sample}"
        )
    if not option.parse:
        return value
    try:
        return option.parse(str(value))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _from_flag(option: Option, text: str) -> Any:
    value: Any = text
    try:
        if option.type is bool:
            value = {"true": True, "false": False}.get(text, text)
        elif option.type in (int, float):
            value = int(text) if option.type is int else float(text)
    except ValueError:
        pass  # it stays text, which is the wrong type
    return _of_type(option, value, option.flag)


def _build(values: Mapping[str, Any], where: str = "") -> Config:
    """Return the configuration. Its dataclasses check limits and combinations; their errors begin
    with the name of the option."""
    tables: dict[str, Any] = {}
    for table, kind in TABLES.items():
        prefix = f"{table}."
        fields = {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
        try:
            tables[table] = kind(**fields)
        except UsageError as error:
            raise UsageError(f"{where}{table}.{error}") from error
    return Config(**tables)
