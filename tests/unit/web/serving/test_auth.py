# SPDX-License-Identifier: Apache-2.0
"""Basic authentication."""

from __future__ import annotations

import asyncio
import base64
from unittest import mock

import bcrypt
import pytest

from slabmon.web.serving import auth
from slabmon.web.serving.auth import BasicAuth, Verdict
from slabmon.web.serving.config import WebConfig
from tests.support.routes import ROUTES, paths
from tests.support.serving import Client, Running, run, serving

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4))
LONG = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4))
USERS = {"alice": HASH, "bob": LONG}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def verdicts(*headers: str) -> list[Verdict]:
    async def check() -> list[Verdict]:
        guard = BasicAuth(USERS)
        return [await guard.check(header, "client") for header in headers]

    return asyncio.run(check())


def test_only_the_right_password_of_a_known_user_is_let_in() -> None:
    right = basic("alice", "secret")
    assert verdicts(right, right, right.replace("Basic", "BASIC")) == [Verdict.YES] * 3
    wrong = (
        "",
        "Basic",
        "Basic !",
        "Basic YQ==",
        "Bearer x",
        right[:-4],
        basic("alice", ""),
        basic("alice", "Secret"),
        basic("carol", "secret"),
        basic("", "secret"),
        basic("alice", "secret\0"),
        basic("alice", "\0"),
        "Basic " + "A" * 9001,
    )
    assert verdicts(*wrong, *wrong) == [Verdict.NO] * 2 * len(wrong)


def test_a_password_counts_up_to_what_bcrypt_sees() -> None:
    assert verdicts(basic("bob", "x" * 72), basic("bob", "x" * 99), basic("bob", "x" * 71)) == [
        Verdict.YES,
        Verdict.YES,
        Verdict.NO,
    ]


def test_what_was_checked_is_remembered_and_wrong_ones_push_no_right_one_out() -> None:
    async def check() -> None:
        guard = BasicAuth(USERS)
        right = basic("alice", "secret")
        assert await guard.check(right, "a") is Verdict.YES
        for number in range(3 * auth._CACHED):
            assert await guard.check(basic("alice", str(number)), "b") is Verdict.NO
        with mock.patch.object(bcrypt, "checkpw", side_effect=AssertionError):
            assert await guard.check(right, "a") is Verdict.YES
            assert await guard.check(basic("alice", str(number)), "b") is Verdict.NO
        assert len(guard._bad) == auth._CACHED
        assert guard.failures == 3 * auth._CACHED + 1

    asyncio.run(check())


def test_unknown_users_cost_what_known_ones_do() -> None:
    with mock.patch.object(bcrypt, "checkpw", wraps=bcrypt.checkpw) as checked:
        verdicts(basic("carol", "secret"))
    assert checked.call_args[0][1].startswith(b"$2b$04$")


def test_many_wrong_passwords_wait_in_a_bounded_queue() -> None:
    async def check() -> None:
        guard = BasicAuth(USERS)
        found = await asyncio.gather(
            *(guard.check(basic("alice", str(number)), "one") for number in range(100))
        )
        assert found.count(Verdict.NO) == auth.MAX_WAITING_PER_CLIENT
        assert found.count(Verdict.BUSY) == 100 - auth.MAX_WAITING_PER_CLIENT
        mixed = [guard.check(basic("alice", f"x{number}"), "one") for number in range(100)]
        assert (await asyncio.gather(*mixed, guard.check(basic("alice", "secret"), "other")))[
            -1
        ] is Verdict.YES, "another client is not pushed aside"
        assert not guard._waiting
        assert not guard._checking

    asyncio.run(check())


def test_scrapers_that_come_together_cost_one_check() -> None:
    async def check() -> None:
        guard = BasicAuth(USERS)
        with mock.patch.object(bcrypt, "checkpw", wraps=bcrypt.checkpw) as checked:
            right = basic("alice", "secret")
            found = await asyncio.gather(*(guard.check(right, "one") for _ in range(50)))
        assert set(found) == {Verdict.YES}
        assert checked.call_count == 1

    asyncio.run(check())


ABSENT = ("/absent", "/healthz/", "//healthz")


def test_health_needs_no_password_and_says_nothing_else() -> None:
    async def check() -> None:
        async with serving(config=WebConfig(users=USERS, interval=3600, burst=1)) as running:
            client = await running.connect()
            for header in ({}, {"Authorization": basic("alice", "wrong")}):
                for _ in range(3):
                    reply = await client.ask("/healthz", **header)
                    assert (reply.status, reply.body) == (200, b"ok\n")
            assert (await client.ask("/healthz", "POST")).status == 405
            assert running.context.access.failures == 0
            assert (await client.ask("/metrics")).status == 401
            client.close()

    run(check)


@pytest.mark.parametrize(
    "path", ["/metrics", "/", "/api/v1/snapshot", "/readyz", "/absent", "/healthz/", "//healthz"]
)
def test_nothing_is_served_without_the_password(path: str) -> None:
    async def check() -> None:
        async with serving(config=WebConfig(users=USERS)) as running:
            client = await running.connect()
            reply = await client.ask(path)
            assert reply.status == 401
            assert reply.headers["www-authenticate"].startswith("basic realm=")
            assert reply.body == b"401 Unauthorized\n"
            assert running.source.taken == 0
            right = await client.ask(path, Authorization=basic("alice", "secret"))
            assert right.status == (404 if path in ABSENT else 200)
            client.close()

    run(check)


@pytest.mark.parametrize("pattern", ROUTES)
def test_every_route_but_health_needs_the_password(pattern: str) -> None:
    async def check() -> None:
        async with serving(config=WebConfig(users=USERS)) as running:
            client = await running.connect()
            for path in paths(pattern):
                assert (await client.ask(path)).status == (200 if path == "/healthz" else 401)
            client.close()

    run(check)


def test_local_clients_have_passed_the_sockets_mode(tmp_path: object) -> None:
    async def check() -> None:
        async with serving(config=WebConfig(users=USERS), path=f"{tmp_path}/s") as running:
            client = await _local(running)
            assert (await client.ask("/metrics")).status == 200
            client.close()

    run(check)


async def _local(running: Running) -> Client:
    return await Client.to(running.path)


def test_requests_beyond_the_rate_are_told_to_come_later() -> None:
    async def check() -> None:
        async with serving(config=WebConfig(interval=3600, burst=2)) as running:
            client = await running.connect()
            replies = [await client.ask("/readyz") for _ in range(3)]
            assert [reply.status for reply in replies] == [200, 200, 429]
            assert replies[2].headers["retry-after"] == "1"
            client.close()

    run(check)
