# SPDX-License-Identifier: Apache-2.0
"""The configuration file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slabmon.base.errors import UsageError
from slabmon.daemon.census_settings import ScheduleSettings
from slabmon.daemon.config import Config, load
from slabmon.daemon.escalation_settings import EscalationSettings
from slabmon.daemon.options import OPTIONS, TABLES, Option
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.settings import Settings
from slabmon.runtime.budget import BudgetSettings
from slabmon.runtime.logs import LogSettings
from slabmon.state.settings import StateSettings
from slabmon.store.settings import HistorySettings
from slabmon.web.settings import WebSettings, parse_address


def loaded(folder: Path, text: str, **flags: str) -> Config:
    path = folder / "slabmon.toml"
    path.write_text(text, "utf-8")
    return load(path, {key.replace("__", "."): value for key, value in flags.items()})


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path, "") == load(None, {}) == Config()


def test_every_key_is_taken(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """
        [web]
        listen_address = "[::1]:80"
        request_seconds = 3
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
        [budget]
        cpu_percent = 2.5
        [state]
        keep = false
        lock_file = "/run/other.lock"
        pin_directory = "/sys/fs/bpf/other"
        [history]
        path = "/var/lib/other/slabs.db"
        interval_seconds = 60
        keep = "2w"
        max_size = "2G"
        [census]
        cpu_seconds = 2.5
        memory_mib = 500
        interval = "30m"
        [escalation]
        enabled = false
        seconds = 30
        pause = "20m"
        [log]
        level = "debug"
        """,
    )
    exact = Filter(cache="dentry", min_size=10)
    assert config == Config(
        WebSettings(listen_address="[::1]:80", request_seconds=3.0),
        Settings(
            sample_bytes=4096,
            exact=exact,
            pages=True,
            stack_frames=0,
            site_slots=128,
            cache_slots=256,
            samples=8192,
            caches=512,
            stacks=1024,
        ),
        BudgetSettings(2.5),
        StateSettings(False, "/run/other.lock", "/sys/fs/bpf/other"),
        HistorySettings("/var/lib/other/slabs.db", 60.0, "2w", "2G"),
        ScheduleSettings(2.5, 500, interval="30m"),
        EscalationSettings(False, 30.0, "20m"),
        LogSettings("debug"),
    )


def test_a_flag_wins_over_the_file(tmp_path: Path) -> None:
    text = "[tracking]\nsamples = 8192\npages = true\n[web]\nlisten_address = ':80'"
    config = loaded(
        tmp_path,
        text,
        tracking__samples="4096",
        tracking__pages="false",
        tracking__exact="module=nvme",
        budget__cpu_percent="0.5",
    )
    assert config.tracking == Settings(samples=4096, exact=Filter(module="nvme"))
    assert config.web.listen_address == ":80"
    assert config.budget.cpu_percent == 0.5


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("tracking.samples", "many", "--tracking.samples: expected a whole number, for example"),
        ("tracking.samples", "4097", "tracking.samples is 4097; it must be a multiple of 4096"),
        ("tracking.pages", "yes", "--tracking.pages: expected true or false"),
        ("tracking.exact", "x", "--tracking.exact: filter 'x'"),
        ("budget.cpu_percent", "nan", "--budget.cpu-percent: expected a number"),
        ("budget.cpu_percent", "-1", "budget.cpu_percent is -1.0; it must be from 0 to 100"),
        ("web.config_file", "", None),
        ("state.pin_directory", "/tmp/x", "it must lie below /sys/fs/bpf"),
        ("state.pin_directory", "/sys/fs/bpf/../x", "it must lie below /sys/fs/bpf"),
        ("state.lock_file", "here", "absolute"),
        ("log.level", "loud", "one of debug, info, warning, error"),
    ],
)
def test_a_mistake_in_a_flag_is_named(key: str, text: str, message: str | None) -> None:
    if message is None:
        load(None, {key: text})
        return
    with pytest.raises(UsageError, match=message.replace("(", "[(]")):
        load(None, {key: text})


def test_a_mistake_in_the_file_is_not_covered_by_a_flag(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"slabmon\.toml: tracking\.samples is 1;"):
        loaded(tmp_path, "[tracking]\nsamples = 1", tracking__samples="8192")


def test_a_reload_takes_what_can_change_and_tells_the_rest(tmp_path: Path) -> None:
    old = loaded(tmp_path, "")
    new = loaded(
        tmp_path,
        """
        [tracking]
        sample_bytes = 4096
        samples = 4096
        [web]
        listen_address = ":1"
        request_seconds = 5
        [budget]
        cpu_percent = 3
        """,
    )
    assert {(o.key, o.live) for o in old.changes(new)} == {
        ("tracking.sample_bytes", True),
        ("tracking.samples", False),
        ("web.request_seconds", True),
        ("web.listen_address", False),
        ("budget.cpu_percent", True),
    }
    assert old.reloaded(new) == Config(
        web=WebSettings(request_seconds=5.0),
        tracking=Settings(sample_bytes=4096),
        budget=BudgetSettings(3.0),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[web", ["TOML"]),
        ("a = 1\na = 2", ["TOML"]),
        ("[wbe]", ["[wbe]", "did you mean web?"]),
        (
            "[other]",
            [
                "[other]",
                "expected one of budget, census, escalation, history, log, state, tracking",
            ],
        ),
        ("web = 3", ["web", "[web]"]),
        ("[[tracking]]\n", ["[tracking]"]),
        ("[web]\nlisten_adress = 'x'", ["web.listen_adress", "did you mean listen_address?"]),
        ("[budget]\ncpu_percent = inf", ["budget.cpu_percent", "a number"]),
        ("[state]\npin_directory = '/var'", ["state.pin_directory", "/sys/fs/bpf/slabmon"]),
        ("x = 1", ["unknown key x in no table", "tracking"]),
        ("[x]", ["unknown table [x]"]),
        (
            "[web]\nlisten_address = 7522",
            ["web.listen_address", "text in quotes"],
        ),
        ("[web]\nlisten_address = 'localhost'", ["'localhost'", "HOST:PORT"]),
        ("[tracking]\nsample_byte = 1", ["tracking.sample_byte", "did you mean sample_bytes?"]),
        ("[tracking]\nsample_bytes = 1", ["tracking.sample_bytes", "64"]),
        (
            "[tracking]\nsample_bytes = 4096.0",
            ["tracking.sample_bytes", "whole number", "sample_bytes = 131072"],
        ),
        (
            "[tracking]\nsample_bytes = true",
            ["tracking.sample_bytes", "whole number", "sample_bytes = 131072"],
        ),
        (
            "[tracking]\nsample_bytes = '4096'",
            ["tracking.sample_bytes", "whole number", "sample_bytes = 131072"],
        ),
        ("[tracking]\npages = 1", ["tracking.pages", "true or false"]),
        ("[tracking]\nexact = 1", ["tracking.exact", "text in quotes"]),
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
    "text",
    [
        "[web",
        "[wbe]",
        "[tracking]\nsample_bytes = 1",
        "[tracking]\nexact = 'nothing'",
        "[web]\nlisten_address = 'localhost'",
    ],
)
def test_every_mistake_names_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"slabmon\.toml"):
        loaded(tmp_path, text)


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "absent.toml", {})
    with pytest.raises(UsageError, match="directory"):
        load(tmp_path, {})
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match=r"cannot read .*/fifo: not a regular file"):
        load(tmp_path / "fifo", {})


def test_a_file_that_is_not_utf8_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "slabmon.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(UsageError, match="TOML"):
        load(tmp_path / "slabmon.toml", {})


KEYS = st.sampled_from([*TABLES, *(option.name for option in OPTIONS), "x"])
VALUES = st.one_of(
    st.integers().map(str),
    st.booleans().map(lambda b: str(b).lower()),
    st.floats().map(repr),
    st.just('"module=nvme"'),
    st.text(st.characters(categories=("L", "N", "P")), max_size=8).map(lambda t: f'"{t}"'),
    st.just("[]"),
    st.just("{}"),
    st.just("1979-05-27"),
)
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
        config = load(path, {})
    except UsageError:
        return
    assert isinstance(config, Config)
    parse_address(config.web.listen_address)
    assert config.reloaded(config) == config


@given(st.sampled_from(OPTIONS), st.text(max_size=20) | st.integers().map(str))
def test_any_flag_is_a_configuration_or_a_usage_error(option: Option, text: str) -> None:
    try:
        load(None, {option.key: text})
    except UsageError as error:
        message = str(error)
    else:
        return
    assert option.flag in message or option.key in message


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
    [
        "",
        "80",
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:65536",
        "localhost:-1",
        "[::1]",
        "localhost:\u0661",
        "localhost: 80",
        "localhost:" + "9" * 5000,
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"HOST:PORT, for example 127\.0\.0\.1:7522"):
        parse_address(text)
