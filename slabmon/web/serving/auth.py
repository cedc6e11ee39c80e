# SPDX-License-Identifier: Apache-2.0
"""Basic authentication against bcrypt hashes, which are slow on purpose: one worker thread, a
bounded queue, and caches of passwords already checked."""

from __future__ import annotations

import asyncio
import base64
import binascii
import enum
import hmac
import os
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor

import bcrypt

_CACHED = 64
MAX_WAITING, MAX_WAITING_PER_CLIENT = 32, 8
# bcrypt ignores the rest of a password.
_BCRYPT_BYTES = 72
# Checked for unknown users, so that timing does not reveal which users exist.
_DUMMY_HASH = b"$2b$%02d$" + b"." * 22 + b"1Ws8ejYp2Mvk5rHqhcTn3OiULgbxaE6"


class Verdict(enum.StrEnum):
    """The verdict on an Authorization header."""

    YES = "yes"
    NO = "no"
    BUSY = "busy"


class BasicAuth:
    """Checks passwords of `users`, which maps names to bcrypt hashes."""

    def __init__(self, users: dict[str, bytes]) -> None:
        self._users = {name.encode(): hashed for name, hashed in users.items()}
        cost = max(int(hashed[4:6]) for hashed in users.values())
        self._dummy = _DUMMY_HASH % cost
        self._secret = os.urandom(32)
        # Two caches, so that a flood of wrong passwords cannot evict a correct one.
        self._good: OrderedDict[bytes, None] = OrderedDict()
        self._bad: OrderedDict[bytes, None] = OrderedDict()
        self._checking: dict[bytes, asyncio.Future[bool]] = {}
        self._waiting: Counter[str] = Counter()
        self._worker = ThreadPoolExecutor(1, "bcrypt")
        self._worker.submit(int).result()  # starts the thread now: later, threads are forbidden
        self.failures = 0

    async def check(self, header: str, client: str) -> Verdict:
        """Return whether an Authorization header is valid; BUSY if too many wait to be checked."""
        user, password = _credentials(header)
        if user is None:
            return Verdict.NO
        key = hmac.digest(self._secret, len(user).to_bytes(4) + user + password, "sha256")
        if key in self._good:
            self._good.move_to_end(key)
            return Verdict.YES
        if key in self._bad:
            return self._refused()
        checking = self._checking.get(key)
        if checking is None:
            if (
                self._waiting.total() >= MAX_WAITING
                or self._waiting[client] >= MAX_WAITING_PER_CLIENT
            ):
                return Verdict.BUSY
            self._waiting[client] += 1
            checking = asyncio.ensure_future(self._verify(key, user, password, client))
            self._checking[key] = checking
        return Verdict.YES if await asyncio.shield(checking) else self._refused()

    def _refused(self) -> Verdict:
        self.failures += 1
        return Verdict.NO

    async def _verify(self, key: bytes, user: bytes, password: bytes, client: str) -> bool:
        try:
            matches = await asyncio.get_running_loop().run_in_executor(
                self._worker, _matches, password, self._users.get(user, self._dummy)
            )
        finally:
            del self._checking[key]
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]
        good = matches and user in self._users
        cache = self._good if good else self._bad
        cache[key] = None
        if len(cache) > _CACHED:
            cache.popitem(last=False)
        return good


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:_BCRYPT_BYTES], hashed)
    except ValueError:  # some versions refuse a NUL byte
        return False


def _credentials(header: str) -> tuple[bytes | None, bytes]:
    """Parse user and password of a Basic header (RFC 7617); the user is None if it is invalid."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None, b""
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None, b""
    return (user, password) if colon else (None, b"")
