# SPDX-License-Identifier: Apache-2.0
"""Listening sockets: TCP, unix, and those a service manager passes."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slabmon.base.errors import UsageError
from slabmon.runtime import listeners
from slabmon.runtime.listeners import activated, bind_tcp, bind_unix, inherited, urls


def test_all_addresses_of_a_host_share_a_free_port() -> None:
    sockets = bind_tcp("localhost", 0)
    assert len({sock.getsockname()[1] for sock in sockets}) == 1
    for sock in sockets:
        assert not sock.get_inheritable()
        sock.close()


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([("127.0.0.1", 1)], ["http://127.0.0.1:1"]),
        ([("0.0.0.0", 1), ("::", 1, 0, 0)], ["http://127.0.0.1:1"]),
        ([("::", 1, 0, 0), ("0.0.0.0", 1)], ["http://127.0.0.1:1"]),
        ([("::", 1, 0, 0)], ["http://[::1]:1"]),
        ([("::1", 1, 0, 0), ("127.0.0.1", 1)], ["http://[::1]:1", "http://127.0.0.1:1"]),
        ([("fd00::1", 1, 0, 0)], ["http://[fd00::1]:1"]),
    ],
)
def test_where_a_browser_on_this_host_reaches_it(
    names: list[tuple[Any, ...]], shown: list[str]
) -> None:
    local: Any = SimpleNamespace(family=socket.AF_UNIX, getsockname=lambda: "/run/x")
    sockets: list[Any] = [
        SimpleNamespace(
            family=socket.AF_INET if len(name) == 2 else socket.AF_INET6,
            getsockname=lambda name=name: name,
        )
        for name in names
    ]
    assert urls([*sockets, local], "http") == shown


def test_a_busy_port_is_a_usage_error() -> None:
    (first,) = bind_tcp("127.0.0.1", 0)
    with first, pytest.raises(UsageError, match="another slabmon"):
        bind_tcp("127.0.0.1", first.getsockname()[1])


def refuse(monkeypatch: pytest.MonkeyPatch, *families: int) -> None:
    """As on a host with ipv6.disable=1."""

    class Socket(socket.socket):
        def __init__(self, family: int = -1, *more: Any, **named: Any) -> None:
            if family in families:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            super().__init__(family, *more, **named)

    monkeypatch.setattr(socket, "socket", Socket)


def test_all_interfaces_are_those_of_the_families_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(monkeypatch, socket.AF_INET6)
    (listener,) = bind_tcp("", 0)
    with listener:
        assert listener.family == socket.AF_INET


def test_without_any_family_the_cause_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, socket.AF_INET, socket.AF_INET6)
    with pytest.raises(UsageError, match="Address family not supported") as caught:
        bind_tcp("", 0)
    assert "another slabmon" not in str(caught.value)


def test_an_unknown_host_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot listen on"):
        bind_tcp("256.256.256.256", 0)


def test_the_unix_socket_is_for_its_owner_and_group_and_goes_with_the_daemon(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run" / "s.sock"
    sock = bind_unix(path)
    assert stat.S_IMODE(path.stat().st_mode) in (0o600, 0o660)
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o022 == 0
    sock.close()
    assert not path.exists()


def test_a_stale_socket_is_replaced_that_of_a_living_process_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    living = bind_unix(path)
    with pytest.raises(UsageError, match="another slabmon listens there"):
        bind_unix(path)
    assert path.is_socket()
    living.close()


def test_no_other_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("x")
    with pytest.raises(UsageError, match="precious"):
        bind_unix(path)
    assert path.read_text() == "x"
    with pytest.raises(UsageError, match="too long"):
        bind_unix(tmp_path / ("x" * 200))


def test_descriptors_are_taken_only_if_they_are_meant_for_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tcp,), pipe = bind_tcp("127.0.0.1", 0), os.pipe()
    first = 200
    for offset, number in enumerate((tcp.fileno(), pipe[0])):
        os.dup2(number, first + offset)
    monkeypatch.setattr(listeners, "_FIRST_PASSED", first)
    variables = {"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:state"}
    assert inherited(variables) == []
    assert variables == {}, "no child takes them for its own"
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:state"}
    found = inherited(variables)
    assert found == [("web", first), ("state", first + 1)]
    assert not os.get_inheritable(first)
    (listener,) = activated(found)
    assert listener.getsockname() == tcp.getsockname()
    listener.close()
    os.fstat(first + 1)  # what is not a listening socket is left alone
    for number in (first + 1, *pipe):
        os.close(number)
    tcp.close()


@pytest.mark.parametrize("count", ["", "x", "-1"])
def test_a_count_that_is_none_is_no_descriptor(count: str) -> None:
    assert inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}) == []
