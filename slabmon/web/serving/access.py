# SPDX-License-Identifier: Apache-2.0
"""Access control of requests over the network: rate limit, client certificate, password."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tornado.httputil import HTTPServerRequest

from slabmon.web.serving.config import WebConfig

if TYPE_CHECKING:
    from slabmon.web.serving.auth import BasicAuth

_CHALLENGE = 'Basic realm="slabmon", charset="UTF-8"'


@dataclass(frozen=True)
class Refusal:
    """The answer to a request that is not let in."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


class TokenBucket:
    """Allows `burst` requests at once and one more each `interval` seconds (0: no limit)."""

    def __init__(self, interval: float, burst: int) -> None:
        self._interval, self._burst = interval, burst
        self._tokens, self._at = float(burst), time.monotonic()

    def take(self) -> bool:
        """Take a token. Returns whether there was one."""
        if not self._interval:
            return True
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) / self._interval)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Access:
    """Enforces the web configuration on clients of TCP; those of the unix socket have passed its
    file mode."""

    def __init__(self, config: WebConfig) -> None:
        self._bucket = TokenBucket(config.interval, config.burst)
        self._auth: BasicAuth | None = None
        if config.users:
            from slabmon.web.serving.auth import BasicAuth

            self._auth = BasicAuth(config.users)
        self._names = config.tls.client_allowed_sans if config.tls else None
        self.headers = config.headers

    @property
    def failures(self) -> int:
        """The number of wrong passwords so far."""
        return self._auth.failures if self._auth else 0

    async def refusal(self, request: HTTPServerRequest, client: str) -> Refusal | None:
        """Return why a request is refused, None to let it in."""
        if not self._bucket.take():
            return Refusal(429, "Too Many Requests", (("Retry-After", "1"),))
        if self._names is not None and not self._names_match(request.get_ssl_certificate()):
            return Refusal(403, "Forbidden: the client certificate has no allowed name")
        if self._auth is None:
            return None
        from slabmon.web.serving.auth import Verdict

        verdict = await self._auth.check(request.headers.get("Authorization", ""), client)
        if verdict is Verdict.BUSY:
            return Refusal(429, "Too Many Requests", (("Retry-After", "1"),))
        if verdict is Verdict.NO:
            return Refusal(401, "Unauthorized", (("WWW-Authenticate", _CHALLENGE),))
        return None

    def _names_match(self, certificate: Any) -> bool:
        names = (certificate or {}).get("subjectAltName", ())
        return any(value in (self._names or ()) for _, value in names)
