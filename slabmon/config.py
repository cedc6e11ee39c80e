"""The configuration file of the daemon: TOML, every key checked."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from slabmon.errors import UsageError
from slabmon.kernel.settings import Filter, Settings

DEFAULT_ADDRESS = "127.0.0.1:7522"
_TRACKING = {setting.name for setting in fields(Settings)} - {"exact"}


@dataclass(frozen=True)
class Config:
    """What `slabmon serve` runs with."""

    listen_address: str = DEFAULT_ADDRESS
    settings: Settings = field(default_factory=Settings)


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT or [IPV6]:PORT; an empty host means all interfaces."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdecimal() or int(port[:6]) > 65535:
        raise UsageError(f"address {text!r} is not HOST:PORT, for example {DEFAULT_ADDRESS}")
    return host, int(port)


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
    web = _table(document, "web", {"listen_address"}, path)
    tracking = _table(document, "tracking", _TRACKING | {"exact"}, path)
    if document:
        raise UsageError(f"{path}: unknown table {next(iter(document))!r}; known are tracking, web")
    address = web.get("listen_address", DEFAULT_ADDRESS)
    if not isinstance(address, str):
        raise UsageError(f"{path}: web.listen_address must be a string, HOST:PORT")
    try:
        parse_address(address)
    except UsageError as error:
        raise UsageError(f"{path}: web.listen_address: {error}") from error
    for key, value in tracking.items():
        wanted: type = str if key == "exact" else bool if key == "pages" else int
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
    return Config(address, settings)
