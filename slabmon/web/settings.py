# SPDX-License-Identifier: Apache-2.0
"""Settings of the web process: the [web] table of the configuration."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import ClassVar

from slabmon.base.errors import UsageError
from slabmon.base.limits import Limits, check_limits
from slabmon.export.choice import CacheChoice, patterns
from slabmon.export.series import MAX_SERIES
from slabmon.store.settings import HistorySettings

DEFAULT_ADDRESS = "127.0.0.1:7522"

# Paths that the telemetry path cannot take: other routes have them.
RESERVED = ("/", "/healthz", "/readyz")
RESERVED_BELOW = ("/api/", "/static/", "/debug/")


def parse_address(text: str) -> tuple[str, int]:
    """Parse HOST:PORT or [IPV6]:PORT; an empty host means all interfaces. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdecimal() or int(port[:6]) > 65535:
        raise UsageError(
            f"invalid address {text!r}: expected HOST:PORT, for example {DEFAULT_ADDRESS}"
        )
    return host, int(port)


@dataclass(frozen=True)
class WebSettings:
    """Everything except what the web configuration file holds.

    listen_address: HOST:PORT. socket_path: the unix socket for local clients; None for the default
    where it can be created, empty for none. config_file: a web configuration in exporter-toolkit's
    format. max_series: the limit of one scrape. cache_include, cache_exclude, cache_pin: patterns
    of the caches that may have series, that have none, and that always have (export/choice.py).
    user: the user that the web process runs as; None for slabmon, else nobody. budget_seconds: how
    long a request waits for the kernel's tables to be read. request_seconds: how long a client may
    take to send a request, or the next one. response_seconds: how long it may take to read the
    answer.
    """

    LIMITS: ClassVar[Limits] = {
        "budget_seconds": (0.05, 60),
        "max_connections": (8, 65_536),
        "max_connections_per_client": (4, 65_536),
        "max_series": (1000, 100_000),
        "request_seconds": (0.5, 300),
        "response_seconds": (0.5, 300),
    }

    listen_address: str = DEFAULT_ADDRESS
    socket_path: str | None = None
    config_file: str | None = None
    telemetry_path: str = "/metrics"
    max_series: int = MAX_SERIES
    cache_include: str = ""
    cache_exclude: str = ""
    cache_pin: str = ""
    user: str | None = None
    budget_seconds: float = 1.0
    max_connections: int = 1024
    max_connections_per_client: int = 512
    request_seconds: float = 10.0
    response_seconds: float = 10.0

    def __post_init__(self) -> None:
        try:
            parse_address(self.listen_address)
        except UsageError as error:
            raise UsageError(f"listen_address: {error}") from error
        path = self.telemetry_path
        if (
            not path.startswith("/")
            or not path.isascii()
            or not path.isprintable()
            or (set(path) & set("?#%\\ ") or path in RESERVED or path.startswith(RESERVED_BELOW))
        ):
            raise UsageError(
                f"telemetry_path: expected a plain path such as /metrics, got {path!r}; it must "
                f"not be {', '.join(RESERVED)} or below {' or '.join(RESERVED_BELOW)}"
            )
        if self.socket_path and not self.socket_path.startswith("/"):
            raise UsageError(
                f"socket_path: expected an absolute path or nothing, got {self.socket_path!r}"
            )
        check_limits(self)
        _ = self.choice

    @property
    def choice(self) -> CacheChoice:
        """The caches that may have series. Raises UsageError if a pattern is empty."""
        return CacheChoice(
            *(
                patterns(f"cache_{name}", getattr(self, f"cache_{name}"))
                for name in ("include", "exclude", "pin")
            )
        )

    def packed(self, replacement: bool = False) -> bytes:
        """Return the settings as one line of JSON, for the web process. `replacement`: see
        ProcessSettings."""
        return json.dumps(asdict(self) | {"replacement": replacement}).encode() + b"\n"


@dataclass(frozen=True)
class ProcessSettings(WebSettings):
    """All settings of the web process: the [web] table, and [history], which it writes.

    `replacement`: a process with the same settings has started before, so that they are valid. This
    one starts even if the history's disk has failed since.
    """

    history: HistorySettings = field(default_factory=HistorySettings)
    replacement: bool = False

    @classmethod
    def of(cls, web: WebSettings, history: HistorySettings) -> ProcessSettings:
        """Combine both tables."""
        return cls(**asdict(web), history=history)

    @classmethod
    def unpack(cls, line: bytes) -> ProcessSettings:
        """Parse what packed() returned."""
        values = json.loads(line)
        history = HistorySettings(**values.pop("history", {}))
        return cls(**values, history=history)
