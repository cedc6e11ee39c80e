# SPDX-License-Identifier: Apache-2.0
"""The web configuration file, in the format that Prometheus' exporters share (exporter-toolkit):
TLS, client certificates, basic authentication, headers, rate limit.

Anything unknown or contradictory is a UsageError that names the key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from slabmon.base.errors import UsageError
from slabmon.base.escape import escape
from slabmon.runtime.files import Identity, identity, open_regular

_MAX_BYTES = 1 << 20
# Cost 16 is the limit: 2^16 rounds take seconds, and one thread checks for all clients.
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-6])\$[./A-Za-z0-9]{53}")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# The headers that may be set, and their allowed values (None: any).
_HEADERS: dict[str, tuple[str, ...] | None] = {
    "Content-Security-Policy": None,
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": None,
    "Strict-Transport-Security": None,
}
_CLIENT_AUTH = (
    "NoClientCert",
    "RequestClientCert",
    "RequireClientCert",
    "RequireAnyClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
)
REQUIRED = ("RequireClientCert", "RequireAnyClientCert", "RequireAndVerifyClientCert")
VERSIONS = ("TLS10", "TLS11", "TLS12", "TLS13")


class TlsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table tls_server_config. Certificates and keys are given as PEM or as files of PEM."""

    cert: str = ""
    key: str = ""
    client_ca: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    client_auth_type: str = ""
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()

    @property
    def enabled(self) -> bool:
        """Whether TLS is configured; versions and ciphers alone do not enable it."""
        return bool(
            self.cert
            or self.cert_file
            or self.key
            or self.key_file
            or self.client_ca
            or self.client_ca_file
            or self.client_auth_type
        )


class _HttpConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    http2: bool = True
    headers: dict[str, str] = {}


class _RateLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    interval: str | int = 0
    burst: int = 0


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tls_server_config: TlsConfig | None = None
    http_server_config: _HttpConfig | None = None
    basic_auth_users: dict[str, str] | None = None
    rate_limit: _RateLimit | None = None


@dataclass(frozen=True)
class WebConfig:
    """The contents of a web configuration file; by default, of an empty one.

    `users` maps names to bcrypt hashes. `interval` is the seconds per request (0: no limit), of
    which `burst` may come at once. `files` maps the files read to their identities before they
    were read.
    """

    tls: TlsConfig | None = None
    headers: dict[str, str] = field(default_factory=dict)
    users: dict[str, bytes] = field(default_factory=dict)
    interval: float = 0.0
    burst: int = 0
    files: dict[str, Identity] = field(default_factory=dict)


def load(path: Path) -> WebConfig:
    """Read a file. Paths in it are relative to its directory. Raises UsageError with its name and
    the key."""
    before = identity(str(path))
    try:
        document = parse(_read(path))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    files = {str(path): before}
    tls = document.tls
    if tls is not None:
        paths = {
            name: str(path.parent / value)
            for name in ("cert_file", "key_file", "client_ca_file")
            if (value := getattr(tls, name))
        }
        files |= {name: identity(name) for name in paths.values()}
        tls = msgspec.structs.replace(tls, **paths)
    return WebConfig(
        tls, document.headers, document.users, document.interval, document.burst, files
    )


def _read(path: Path) -> bytes:
    try:
        with open(open_regular(path), "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise UsageError(f"exceeds {_MAX_BYTES >> 20} MiB; this is not a web configuration file")
    return data


def parse(data: bytes) -> WebConfig:
    """Parse and check the text of a file, without the files it names. Raises UsageError with the
    key."""
    # Only here: most hosts have no such file, and YAML takes 0.8 MiB.
    from slabmon.web.serving.plain_yaml import read_yaml

    raw = read_yaml(data)
    try:
        document = msgspec.convert(raw if raw is not None else {}, _Document)
    except (msgspec.ValidationError, RecursionError) as error:
        reason = str(error).replace("$.", "")
        raise UsageError(escape(reason.encode("utf-8", "backslashreplace"))) from error
    http = document.http_server_config or _HttpConfig()
    limit = document.rate_limit or _RateLimit()
    tls = document.tls_server_config
    if tls is not None:
        _check_tls(tls)
    interval = _seconds(limit.interval)
    if limit.burst < 0 or (interval and not limit.burst):
        raise UsageError(f"rate_limit.burst: expected at least 1, got {limit.burst}")
    return WebConfig(
        tls if tls is not None and tls.enabled else None,
        _headers(http.headers),
        _users(document.basic_auth_users or {}),
        interval,
        limit.burst,
    )


def _check_tls(tls: TlsConfig) -> None:
    where = "tls_server_config"
    for name in ("cert", "key", "client_ca"):
        inline, file = getattr(tls, name), getattr(tls, name + "_file")
        if "\0" in file:
            raise UsageError(f"{where}.{name}_file is not a path")
        if inline and file:
            raise UsageError(f"{where}: {name} and {name}_file exclude each other; choose one")
        if tls.enabled and name != "client_ca" and not (inline or file):
            raise UsageError(f"{where}: one of {name} and {name}_file is missing")
    kind = tls.client_auth_type or "NoClientCert"
    if kind not in _CLIENT_AUTH:
        raise UsageError(
            f"{where}.client_auth_type: expected one of {', '.join(_CLIENT_AUTH)}, got {kind!r}"
        )
    authority = bool(tls.client_ca or tls.client_ca_file)
    if authority and kind == "NoClientCert":
        raise UsageError(
            f"{where}: a client CA needs a client_auth_type that requests certificates"
        )
    if not authority and kind in (*REQUIRED, "VerifyClientCertIfGiven"):
        raise UsageError(
            f"{where}.client_auth_type {kind} needs client_ca_file: certificates without a CA "
            "are always refused"
        )
    if tls.client_allowed_sans is not None and kind not in REQUIRED:
        raise UsageError(
            f"{where}.client_allowed_sans needs client_auth_type RequireAndVerifyClientCert"
        )
    for name in ("min_version", "max_version"):
        if getattr(tls, name) not in VERSIONS:
            raise UsageError(f"{where}.{name} must be one of {', '.join(VERSIONS)}")
    if VERSIONS.index(tls.min_version) > VERSIONS.index(tls.max_version):
        raise UsageError(f"{where}: min_version is above max_version; no client could connect")


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        where = f"http_server_config.headers.{name}"
        if name not in _HEADERS:
            raise UsageError(f"{where} cannot be set; choose from {', '.join(_HEADERS)}")
        allowed = _HEADERS[name]
        if value and allowed and value not in allowed:
            raise UsageError(f"{where} must be {' or '.join(allowed)}")
        if not value.isprintable() or not value.isascii():
            raise UsageError(f"{where} must be printable ASCII")
    return {name: value for name, value in headers.items() if value}


def _users(users: dict[str, str]) -> dict[str, bytes]:
    for name, hashed in users.items():
        if not name or ":" in name:
            raise UsageError(f"basic_auth_users: {name!r} is not a user name")
        if not _BCRYPT.fullmatch(hashed):
            raise UsageError(
                f"basic_auth_users.{name}: expected a bcrypt hash of cost 4 to 16; create "
                f"one with: htpasswd -nBC 10 {name}"
            )
    return {name: hashed.encode() for name, hashed in users.items()}


def _seconds(duration: str | int) -> float:
    """Parse a duration in Go's format: 0, 100ms, 1m30s. Raises UsageError."""
    if duration in (0, "0"):
        return 0.0
    parts = _DURATION.findall(duration) if isinstance(duration, str) and len(duration) < 32 else []
    if not parts or "".join(map("".join, parts)) != duration:
        raise UsageError(
            f"rate_limit.interval: expected a duration such as 1s, 100ms or 1m30s, got {duration!r}"
        )
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))
