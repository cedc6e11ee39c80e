"""The configuration file of the daemon: TOML, every key checked."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from slabmon.errors import UsageError
from slabmon.kernel.settings import Filter, Settings
from slabmon.web.settings import WebSettings

_WEB_TYPES: dict[str, type] = {
    **dict.fromkeys(
        ("listen_address", "socket_path", "config_file", "telemetry_path", "user"), str
    ),
    **dict.fromkeys(("max_connections", "max_connections_per_client"), int),
    **dict.fromkeys(("budget_seconds", "request_seconds", "response_seconds"), float),
}
_TRACKING = {setting.name for setting in fields(Settings)} - {"exact"}


@dataclass(frozen=True)
class Config:
    """What `slabmon serve` runs with."""

    web: WebSettings = field(default_factory=WebSettings)
    settings: Settings = field(default_factory=Settings)


def _table(document: dict[str, Any], name: str, known: set[str], path: Path) -> dict[str, Any]:
    table = document.pop(name, {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {name} must be a table, [{name}]")
    for key in table:
        if key not in known:
            raise UsageError(
                f"{path}: unknown key {name}.{key}; known are {', '.join(sorted(known))}"
            )
    return table


def load(path: Path) -> Config:
    """Reads a configuration file; any doubt is an error that names the key."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    web = _table(document, "web", set(_WEB_TYPES), path)
    tracking = _table(document, "tracking", _TRACKING | {"exact"}, path)
    if document:
        raise UsageError(f"{path}: unknown table {next(iter(document))!r}; known are tracking, web")
    for key, value in web.items():
        wanted = _WEB_TYPES[key]
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise UsageError(f"{path}: web.{key} must be of type {wanted.__name__}")
    try:
        web_settings = WebSettings(**web)
    except UsageError as error:
        raise UsageError(f"{path}: web.{error}") from error
    for key, value in tracking.items():
        wanted = str if key == "exact" else bool if key == "pages" else int
        if type(value) is not wanted:
            raise UsageError(f"{path}: tracking.{key} must be of type {wanted.__name__}")
    try:
        exact = Filter.parse(tracking.pop("exact")) if "exact" in tracking else None
    except UsageError as error:
        raise UsageError(f"{path}: tracking.exact: {error}") from error
    try:
        settings = replace(Settings(**tracking), exact=exact)
    except UsageError as error:
        raise UsageError(f"{path}: tracking.{error}") from error
    return Config(web_settings, settings)
