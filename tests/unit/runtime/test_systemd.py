# SPDX-License-Identifier: Apache-2.0
"""sd_notify, its descriptors, the store and the watchdog, against a socket of our own."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from slabmon.runtime.systemd import Notifier, watchdog_seconds
from slabmon.state.descriptor_store import SystemdStore


class Manager:
    """What systemd sees."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self.socket.setblocking(False)

    def received(self) -> list[tuple[list[str], list[int]]]:
        """Lines and descriptors of each message; a barrier's is closed, as systemd does."""
        messages: list[tuple[list[str], list[int]]] = []
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(16))
            except BlockingIOError:
                return messages
            descriptors = array.array("i")
            for _, _, content in ancillary:
                descriptors.frombytes(content)
            for descriptor in descriptors:
                os.close(descriptor)
            messages.append((data.decode().split("\n"), list(descriptors)))


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{tmp_path}/notify" if request.param == "path" else f"@slabmon-{os.getpid()}"


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    result = Manager(address)
    yield result
    result.socket.close()


def test_messages_arrive_and_the_variable_is_taken(
    manager: Manager, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notifier = Notifier.from_environment()
    assert notifier
    assert "NOTIFY_SOCKET" not in os.environ, "children must not speak for the service"
    assert notifier.send("READY=1")
    notifier.status("two\nlines")
    assert manager.received() == [(["READY=1"], []), (["STATUS=two lines"], [])]


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier.from_environment()
    assert not notifier
    assert not notifier.send("READY=1")
    assert not notifier.barrier()
    assert not Notifier("/nowhere/at/all").send("READY=1")


def test_the_store_names_each_descriptor_and_has_it_not_polled(
    manager: Manager, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Notifier, "barrier", lambda self: True)
    store = SystemdStore(Notifier(address), [("map-pool", 17), ("slabmon.socket", 18)])
    assert store.take() == {"map-pool": 17}
    assert store.take() == {}
    with open(os.devnull) as one, open(os.devnull) as two:
        store.keep({"map-pool": one.fileno(), "link-kfree": two.fileno()})
    kept = manager.received()
    assert [lines for lines, _ in kept] == [
        ["FDSTORE=1", "FDNAME=map-pool", "FDPOLL=0"],
        ["FDSTORE=1", "FDNAME=link-kfree", "FDPOLL=0"],
    ]
    assert all(len(descriptors) == 1 for _, descriptors in kept)
    store.forget(["map-pool"])
    assert manager.received() == [(["FDSTOREREMOVE=1", "FDNAME=map-pool"], [])]


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_for_the_process_it_names(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], wanted: float | None
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert watchdog_seconds() == wanted
