# SPDX-License-Identifier: Apache-2.0
"""TLS with and without client certificates, and clients that get it wrong."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from slabmon.web.serving.config import TlsConfig, WebConfig
from tests.support.certificates import Authority
from tests.support.serving import Client, Running, run, serving


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> dict[str, Any]:
    certificate, key = authority.issue("server")
    return {"cert_file": str(certificate), "key_file": str(key)}


def trusting(authority: Authority, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if certificate:
        context.load_cert_chain(*certificate)
    return context


async def gets_in(running: Running, tls: ssl.SSLContext) -> bool:
    """Whether an answer comes. With TLS 1.3 the client learns of a refusal when it reads."""
    try:
        client = await running.connect(tls)
        reply = await client.ask("/metrics")
        client.close()
        return reply.status == 200
    except (ssl.SSLError, ConnectionError, EOFError):
        return False


def test_metrics_come_over_tls(authority: Authority, server: dict[str, Any]) -> None:
    async def check() -> None:
        async with serving(config=WebConfig(TlsConfig(**server))) as running:
            assert await gets_in(running, trusting(authority))
            old = trusting(authority)
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            assert await gets_in(running, old)

    run(check)


def test_versions_outside_the_configured_ones_are_refused(
    authority: Authority, server: dict[str, Any]
) -> None:
    async def check() -> None:
        tls = TlsConfig(min_version="TLS13", **server)
        async with serving(config=WebConfig(tls)) as running:
            old = trusting(authority)
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            assert not await gets_in(running, old)
            assert await gets_in(running, trusting(authority))

    run(check)


@pytest.mark.parametrize(
    ("kind", "without", "foreign"),
    [
        ("RequestClientCert", True, True),
        ("VerifyClientCertIfGiven", True, False),
        ("RequireAnyClientCert", False, False),
        ("RequireAndVerifyClientCert", False, False),
    ],
)
def test_client_certificates(
    authority: Authority,
    server: dict[str, Any],
    tmp_path: Path,
    kind: str,
    without: bool,
    foreign: bool,
) -> None:
    known = authority.issue("client", "DNS:prometheus.example")
    unknown = Authority(tmp_path / "elsewhere").issue("stranger")

    async def check() -> None:
        tls = TlsConfig(client_auth_type=kind, client_ca_file=str(authority.certificate), **server)
        async with serving(config=WebConfig(tls)) as running:
            assert await gets_in(running, trusting(authority, known))
            assert await gets_in(running, trusting(authority)) == without
            assert await gets_in(running, trusting(authority, unknown)) == foreign

    run(check)


def test_only_allowed_names_are_let_in(authority: Authority, server: dict[str, Any]) -> None:
    allowed = authority.issue("one", "DNS:prometheus.example")
    other = authority.issue("two", "DNS:other.example,IP:10.0.0.1")

    async def check() -> None:
        tls = TlsConfig(
            client_auth_type="RequireAndVerifyClientCert",
            client_ca_file=str(authority.certificate),
            client_allowed_sans=("prometheus.example",),
            **server,
        )
        async with serving(config=WebConfig(tls)) as running:
            assert await gets_in(running, trusting(authority, allowed))
            client = await running.connect(trusting(authority, other))
            assert (await client.ask("/metrics")).status == 403
            client.close()

    run(check)


def test_a_client_that_gets_tls_wrong_delays_nobody(
    authority: Authority, server: dict[str, Any]
) -> None:
    async def check() -> None:
        async with serving(config=WebConfig(TlsConfig(**server))) as running:
            silent = [await running.connect() for _ in range(50)]
            partial = await running.connect()
            await partial.send(b"\x16\x03\x01\x02\x00\x01")
            plain = await running.connect()
            await plain.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"slabmon" not in await plain.closed()
            distrusting = ssl.create_default_context()
            assert not await gets_in(running, distrusting)
            assert await gets_in(running, trusting(authority))
            assert len(running.context.connections) >= 51, "the silent ones are still there"
            for client in (*silent, partial, plain):
                client.close()

    run(check)


def test_the_unix_socket_is_plain(server: dict[str, Any], tmp_path: Path) -> None:
    async def check() -> None:
        config = WebConfig(TlsConfig(**server))
        async with serving(config=config, path=str(tmp_path / "s")) as running:
            client = await Client.to(running.path)
            assert (await client.ask("/metrics")).status == 200
            client.close()

    run(check)
