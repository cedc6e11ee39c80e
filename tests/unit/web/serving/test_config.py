# SPDX-License-Identifier: Apache-2.0
"""The web configuration file: exporter-toolkit's format, every doubt an error."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from slabmon.base.errors import UsageError
from slabmon.web.serving.config import WebConfig, load, parse
from slabmon.web.serving.tls import make_context
from tests.support.certificates import Authority

HASH = "$2b$04$" + "a" * 53


def test_an_empty_file_asks_for_nothing() -> None:
    for text in ("", "# nothing\n", "{}", "basic_auth_users: {}", "tls_server_config: {}"):
        assert parse(text.encode()) == WebConfig()


def test_everything_of_the_format_is_taken() -> None:
    config = parse(
        f"""
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus.example, 10.0.0.1]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [X25519]
http_server_config:
  http2: false
  headers:
    Strict-Transport-Security: max-age=31536000
    X-Frame-Options: deny
    X-XSS-Protection: ""
basic_auth_users:
  alice: {HASH}
rate_limit:
  interval: 1m30s
  burst: 20
""".encode()
    )
    assert config.tls is not None
    assert config.tls.client_allowed_sans == ("prometheus.example", "10.0.0.1")
    assert config.headers == {
        "Strict-Transport-Security": "max-age=31536000",
        "X-Frame-Options": "deny",
    }
    assert config.users == {"alice": HASH.encode()}
    assert (config.interval, config.burst) == (90.0, 20)


CERT = "cert_file: a, key_file: b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1", ["`a`"]),
        ("[1]", ["array"]),
        ("a: [", ["YAML"]),
        ("basic_auth_users: {a: x}\nbasic_auth_users: {}", ["duplicate"]),
        ("basic_auth_users: &a {a: x}\nrate_limit: *a", ["aliases"]),
        ("tls_server_config: {cert_fil: x}", ["`cert_fil`", "tls_server_config"]),
        ("tls_server_config: {cert_file: 1}", ["str", "tls_server_config.cert_file"]),
        ("tls_server_config: {cert_file: a}", ["key_file", "missing"]),
        ("tls_server_config: {client_ca_file: a}", ["cert_file", "missing"]),
        (f"tls_server_config: {{{CERT}, cert: x}}", ["cert", "exclude"]),
        (f"tls_server_config: {{{CERT}, client_auth_type: All}}", ["'All'", "NoClientCert"]),
        (f"tls_server_config: {{{CERT}, client_ca_file: c}}", ["client_auth_type"]),
        (
            f"tls_server_config: {{{CERT}, client_auth_type: VerifyClientCertIfGiven}}",
            ["client_ca_file"],
        ),
        (f"tls_server_config: {{{CERT}, client_allowed_sans: [a]}}", ["client_allowed_sans"]),
        (f"tls_server_config: {{{CERT}, min_version: SSL3}}", ["min_version", "TLS12"]),
        (f"tls_server_config: {{{CERT}, min_version: TLS13, max_version: TLS12}}", ["above"]),
        ("http_server_config: {headers: {X-Other: a}}", ["X-Other", "X-Frame-Options"]),
        ("http_server_config: {headers: {X-Frame-Options: any}}", ["deny", "sameorigin"]),
        ('http_server_config: {headers: {X-XSS-Protection: "a\\r\\nb: c"}}', ["printable"]),
        ("http_server_config: {http2: 1}", ["bool", "http2"]),
        ("basic_auth_users: {a: secret}", ["basic_auth_users.a", "bcrypt", "htpasswd"]),
        (f"basic_auth_users: {{'a:b': {HASH}}}", ["'a:b'"]),
        ("rate_limit: {interval: 1x, burst: 1}", ["rate_limit.interval", "1s"]),
        ("rate_limit: {interval: 1s}", ["rate_limit.burst"]),
    ],
)
def test_a_mistake_is_named(text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text.encode())
    assert all(word in str(caught.value) for word in words), caught.value


def test_passwords_are_not_shown_in_errors() -> None:
    with pytest.raises(UsageError) as caught:
        parse(b"basic_auth_users: {alice: hunter2}")
    assert "hunter2" not in str(caught.value)


def test_the_file_is_named_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {cert_file: c.pem, key_file: /k.pem}")
    config = load(path)
    assert config.tls is not None
    assert (config.tls.cert_file, config.tls.key_file) == (str(tmp_path / "c.pem"), "/k.pem")
    assert set(config.files) == {str(path), str(tmp_path / "c.pem"), "/k.pem"}
    path.write_text("x: 1")
    with pytest.raises(UsageError, match=r"web\.yml"):
        load(path)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(UsageError, match=path.name):
            load(path)
    (tmp_path / "large").write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(UsageError, match="exceeds 1 MiB"):
        load(tmp_path / "large")


SCALARS = st.one_of(
    st.text(max_size=8),
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(),
    st.sampled_from([HASH, "TLS12", "deny", "1s", "NoClientCert", "a.pem"]),
)
KEYS = st.sampled_from(
    [
        "tls_server_config",
        "http_server_config",
        "basic_auth_users",
        "rate_limit",
        "headers",
        "cert",
        "cert_file",
        "key_file",
        "client_ca",
        "client_auth_type",
        "min_version",
        "interval",
        "burst",
        "cipher_suites",
        "X-Frame-Options",
        "x",
    ]
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            KEYS | SCALARS.filter(lambda s: not isinstance(s, float)), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def checked(data: bytes) -> None:
    """A configuration, or one line of error."""
    with contextlib.suppress(UsageError):
        config = parse(data)
        assert isinstance(config, WebConfig)
        if config.tls is not None:
            make_context(config.tls)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
@example(b"a: " + b"[" * 20000)
@example(b"a: " + b"9" * 5000)
@example(b'tls_server_config: {cert: "\\ud800", key: "\\udc80"}')
@example(b'tls_server_config: {cert_file: "\\ud800", key_file: b}')
@example(b"? {a: b}\n: 1")
@example(b"!!python/object/apply:os.system ['true']")
@example(b"a: 2001-99-99")
@example(b"<<: [{a: 1}]")
@example(b"{[1]: 2}")
@example(b'tls_server_config: {cert_file: "\\0", key_file: b}')
def test_any_bytes_are_a_configuration_or_a_usage_error(data: bytes) -> None:
    checked(data)


@given(TREES)
def test_any_document_is_a_configuration_or_a_usage_error(document: object) -> None:
    checked(yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def context_of(text: str) -> None:
    config = parse(text.encode())
    assert config.tls is not None
    make_context(config.tls)


def test_certificates_may_stand_in_the_file_itself(authority: Authority) -> None:
    certificate, key = authority.issue("server")
    document = {
        "tls_server_config": {
            "cert": certificate.read_text(),
            "key": key.read_text(),
            "client_ca": authority.certificate.read_text(),
            "client_auth_type": "RequireAndVerifyClientCert",
        }
    }
    context_of(yaml.safe_dump(document))


def test_what_openssl_refuses_is_named(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("server")
    _, other = authority.issue("other")
    (tmp_path / "not").write_text("not PEM")
    os.mkfifo(tmp_path / "fifo")
    files = f"cert_file: {certificate}, key_file: {key}"
    for text, word in (
        (f"{{cert_file: {certificate}, key_file: {other}}}", str(other)),
        (f"{{cert_file: {tmp_path / 'not'}, key_file: {key}}}", "PEM"),
        (f"{{cert_file: {tmp_path / 'absent'}, key_file: {key}}}", "cert_file"),
        (f"{{cert_file: {tmp_path / 'fifo'}, key_file: {key}}}", "cert_file"),
        (f"{{cert_file: {certificate}, key_file: {tmp_path / 'fifo'}}}", "not a regular file"),
        (
            f"{{{files}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: "
            f"{tmp_path / 'not'}}}",
            "client_ca",
        ),
        (f"{{{files}, cipher_suites: [TLS_NULL]}}", "TLS_NULL"),
        (f"{{{files}, curve_preferences: [X25519, CurveP256]}}", "one curve"),
        (f"{{{files}, curve_preferences: [CurveX]}}", "CurveX"),
    ):
        with pytest.raises(UsageError) as caught:
            context_of(f"tls_server_config: {text}")
        assert word in str(caught.value)


def test_an_encrypted_key_is_not_asked_for(authority: Authority) -> None:
    certificate, key = authority.issue("server")
    locked = authority.folder / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-in", key, "-out", locked, "-aes128", "-passout", "pass:secret"],
        check=True,
        capture_output=True,
    )
    with pytest.raises(UsageError, match="encrypted"):
        context_of(f"tls_server_config: {{cert_file: {certificate}, key_file: {locked}}}")
