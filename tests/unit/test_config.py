"""The configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slabmon.config import Config, load
from slabmon.errors import UsageError
from slabmon.kernel.settings import Filter, Settings
from slabmon.web.settings import WebSettings, parse_address


def loaded(folder: Path, text: str) -> Config:
    path = folder / "slabmon.toml"
    path.write_text(text, "utf-8")
    return load(path)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path, "") == Config(WebSettings(), Settings())


def test_every_key_is_taken(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """
        [web]
        listen_address = "[::1]:80"
        socket_path = "/run/x.sock"
        config_file = "web.yml"
        telemetry_path = "/m"
        user = "daemon"
        budget_seconds = 2
        max_connections = 10
        max_connections_per_client = 5
        request_seconds = 3
        response_seconds = 4.5
        [tracking]
        sample_bytes = 4096
        pages = true
        stack_frames = 0
        site_slots = 128
        cache_slots = 256
        samples = 8192
        caches = 512
        stacks = 1024
        exact = "cache=dentry,min_size=10"
        """,
    )
    exact = Filter(cache="dentry", min_size=10)
    assert config == Config(
        WebSettings("[::1]:80", "/run/x.sock", "web.yml", "/m", "daemon", 2, 10, 5, 3, 4.5),
        Settings(4096, exact, True, 0, 128, 256, 8192, 512, 1024),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[web", ["TOML"]),
        ("a = 1\na = 2", ["TOML"]),
        ("[wbe]", ["'wbe'", "tracking", "web"]),
        ("web = 3", ["web", "[web]"]),
        ("[[tracking]]\n", ["[tracking]"]),
        ("[web]\nlisten_adress = 'x'", ["web.listen_adress", "listen_address"]),
        ("[web]\nlisten_address = 7522", ["web.listen_address", "str"]),
        ("[web]\nbudget_seconds = '1'", ["web.budget_seconds", "float"]),
        ("[web]\nbudget_seconds = inf", ["web.budget_seconds", "0.05", "60"]),
        ("[web]\nmax_connections = 1.5", ["web.max_connections", "int"]),
        ("[web]\ntelemetry_path = 'metrics'", ["web.telemetry_path", "/metrics"]),
        ("[web]\ntelemetry_path = '/'", ["web.telemetry_path", "/healthz"]),
        ("[web]\nsocket_path = 'x.sock'", ["web.socket_path", "absolute"]),
        ("[web]\nlisten_address = 'localhost'", ["'localhost'", "HOST:PORT"]),
        ("[tracking]\nsample_byte = 1", ["tracking.sample_byte", "sample_bytes"]),
        ("[tracking]\nsample_bytes = 1", ["tracking.sample_bytes", "64"]),
        ("[tracking]\nsample_bytes = 4096.0", ["tracking.sample_bytes", "int"]),
        ("[tracking]\nsample_bytes = true", ["tracking.sample_bytes", "int"]),
        ("[tracking]\nsample_bytes = '4096'", ["tracking.sample_bytes", "int"]),
        ("[tracking]\npages = 1", ["tracking.pages", "bool"]),
        ("[tracking]\nexact = 1", ["tracking.exact", "str"]),
        ("[tracking]\nexact = 'nothing'", ["'nothing'", "KEY=VALUE"]),
        ("[tracking]\nsite_slots = 100", ["tracking.site_slots", "power of two"]),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, text)
    message = str(caught.value)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "text", ["[web", "[wbe]", "[tracking]\nsample_bytes = 1", "[tracking]\nexact = 'nothing'",
             "[web]\nlisten_address = 'localhost'"],
)  # fmt: skip
def test_every_mistake_names_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"slabmon\.toml"):
        loaded(tmp_path, text)


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "absent.toml")
    with pytest.raises(UsageError, match="directory"):
        load(tmp_path)


def test_a_file_that_is_not_utf8_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "slabmon.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(UsageError, match="TOML"):
        load(tmp_path / "slabmon.toml")


KEYS = st.sampled_from(
    ["web", "tracking", "listen_address", "sample_bytes", "exact", "pages", "site_slots", "x"]
)
VALUES = st.one_of(
    st.integers().map(str), st.booleans().map(lambda b: str(b).lower()), st.floats().map(repr),
    st.text(st.characters(categories=("L", "N", "P")), max_size=8).map(lambda t: f'"{t}"'),
    st.just("[]"), st.just("{}"), st.just("1979-05-27"),
)  # fmt: skip
LINES = st.one_of(
    KEYS.map("[{}]".format), st.tuples(KEYS, VALUES).map(" = ".join), st.text(max_size=20)
)


@given(st.lists(LINES, max_size=6).map("\n".join))
@example("a = " + "9" * 5000)
@example("a = " + "[" * 2000)
def test_any_text_is_a_configuration_or_a_usage_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        config = load(path)
    except UsageError:
        return
    assert isinstance(config, Config)
    parse_address(config.web.listen_address)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("127.0.0.1:7522", ("127.0.0.1", 7522)),
        ("localhost:0", ("localhost", 0)),
        (":80", ("", 80)),
        ("[::1]:65535", ("::1", 65535)),
        ("[::]:80", ("::", 80)),
    ],
)
def test_an_address_is_host_and_port(text: str, wanted: tuple[str, int]) -> None:
    assert parse_address(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "80", "localhost", "localhost:", "localhost:http", "localhost:65536", "localhost:-1",
     "[::1]", "localhost:\u0661", "localhost: 80", "localhost:" + "9" * 5000],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"HOST:PORT, for example 127\.0\.0\.1:7522"):
        parse_address(text)
