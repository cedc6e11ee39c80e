# SPDX-License-Identifier: Apache-2.0
"""One web process seen from the collector: the protocol, and children that violate it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from slabmon.daemon.web_process import WebProcess
from slabmon.runtime.channel import (
    ALIVE,
    DETAILED,
    DOUBT,
    PLAIN,
    RETIRE,
    WANTED,
    Answer,
    Started,
    doubt_digest,
)
from slabmon.runtime.event_loop import EventLoop
from slabmon.runtime.figures import DaemonFigures
from slabmon.web.settings import ProcessSettings, WebSettings
from tests.support.children import FakeChild, FakeSpawner, ManualClock

SETTINGS = WebSettings(max_series=2000)


class Owner:
    """What a supervisor would learn of one web process."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.loop = EventLoop(self.clock)
        self.spawner = FakeSpawner()
        self.commands: list[bytes] = []
        self.doubts: list[bytes] = []
        self.started: list[Started] = []
        self.gone: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.process = WebProcess(
            self.loop,
            SETTINGS,
            [self.listener],
            self.spawner,
            lambda _, command: self.commands.append(command),
            self.doubts.append,
            lambda _, started: self.started.append(started),
            lambda _, reason: self.gone.append(reason),
        )

    @property
    def child(self) -> FakeChild:
        return self.spawner.last

    def run(self) -> None:
        self.clock.run(self.loop)

    def serve(self) -> None:
        """Bring it to where it may send commands."""
        self.child.start()
        self.run()


@pytest.fixture
def owner() -> Iterator[Owner]:
    result = Owner()
    yield result
    result.process.end(0)
    result.spawner.close()
    result.listener.close()
    result.loop.close()


def test_it_gets_its_settings_and_the_listening_sockets(owner: Owner) -> None:
    assert ProcessSettings.unpack(owner.child.settings()).max_series == 2000
    assert owner.child.listeners == (owner.listener.fileno(),)
    assert owner.process.pid == owner.child.pid


def test_a_start_is_reported_once_its_message_is_complete(owner: Owner) -> None:
    message = Started(files={"/a": (1, 2)}, tls=True)
    data = message.pack()
    owner.child.send(data[:7])
    owner.run()
    assert not owner.started
    owner.child.send(data[7:] + PLAIN)
    owner.run()
    assert owner.started == [message]
    assert owner.process.started
    assert owner.commands == [PLAIN], "a command may follow at once"


def test_a_start_that_failed_is_not_one(owner: Owner) -> None:
    owner.child.start(Started(error="wrong", exit_code=2))
    owner.run()
    assert [started.error for started in owner.started] == ["wrong"]
    assert not owner.process.started


def test_a_command_is_answered_before_the_next_one_is_read(owner: Owner) -> None:
    owner.serve()
    owner.child.send(DETAILED)
    owner.run()
    assert owner.commands == [DETAILED]
    owner.child.send(ALIVE)
    owner.run()
    answer = Answer(DETAILED, True, DaemonFigures(web_restarts=3), b"body")
    owner.process.answer(answer)
    owner.run()
    assert owner.child.answers() == [answer]
    owner.child.send(ALIVE + PLAIN)
    owner.run()
    assert owner.commands == [DETAILED, PLAIN]
    assert not owner.gone


def test_an_answer_larger_than_the_socket_is_sent_as_the_child_takes_it(owner: Owner) -> None:
    owner.serve()
    owner.child.send(PLAIN)
    owner.run()
    answer = Answer(PLAIN, True, DaemonFigures(), bytes(5 << 20))
    owner.process.answer(answer)
    answers: list[Answer] = []
    for _ in range(1000):
        owner.run()
        answers += owner.child.answers()
        if answers:
            break
    assert answers == [answer]


def test_tracking_is_wanted_without_an_answer(owner: Owner) -> None:
    owner.serve()
    owner.child.send(WANTED)
    owner.run()
    owner.child.send(ALIVE + WANTED + PLAIN)
    owner.run()
    assert owner.commands == [WANTED, WANTED, PLAIN]
    assert not owner.gone


@pytest.mark.parametrize("data", [b"y", PLAIN + PLAIN, PLAIN + DETAILED, b"open /etc/shadow"])
def test_anything_but_one_command_is_the_end(owner: Owner, data: bytes) -> None:
    owner.serve()
    owner.child.send(data)
    owner.run()
    assert owner.gone == ["it sent something that is not a command"]
    assert not owner.commands
    owner.process.answer(Answer(PLAIN))
    assert not owner.child.answers(), "it is not answered any more"


def test_a_malformed_start_message_is_the_end(owner: Owner) -> None:
    owner.child.send(b"\xff\xff\xff\xff")
    owner.run()
    assert owner.gone == ["a start message is too long"]


@pytest.mark.parametrize(
    ("code", "reason"), [(3, "exit code 3"), (-11, "signal 11"), (None, "it closed its channel")]
)
def test_the_reason_for_its_end_is_known(owner: Owner, code: int | None, reason: str) -> None:
    owner.serve()
    owner.child.channel.close()
    owner.child.code = code
    owner.run()
    assert owner.gone == [reason]


def test_one_that_ends_while_it_is_answered_is_gone(owner: Owner) -> None:
    owner.serve()
    owner.child.send(PLAIN)
    owner.run()
    owner.child.exit(1)
    owner.process.answer(Answer(PLAIN, True, DaemonFigures(), bytes(1 << 20)))
    assert owner.gone == ["exit code 1"]


def test_a_sign_of_life_resets_the_checks(owner: Owner) -> None:
    owner.serve()
    owner.process.checks = 7
    owner.child.send(ALIVE)
    owner.run()
    assert owner.process.checks == 0
    assert not owner.commands


def test_one_that_is_retired_is_asked_to_end_and_not_listened_to(owner: Owner) -> None:
    owner.serve()
    owner.process.retire()
    assert [answer.kind for answer in owner.child.answers()] == [RETIRE]
    owner.child.send(PLAIN)
    owner.run()
    assert not owner.commands
    assert not owner.process.ended()
    owner.child.exit(0)
    owner.run()
    assert owner.process.ended()
    assert not owner.gone


def test_one_that_does_not_end_is_killed(owner: Owner) -> None:
    owner.process.end(0)
    assert owner.child.killed


def test_doubts_are_passed_on_among_other_messages(owner: Owner) -> None:
    owner.serve()
    one, other = doubt_digest("cache", "a"), doubt_digest("site", "b")
    owner.child.send(ALIVE + DOUBT + one + WANTED + DOUBT + other[:5])
    owner.run()
    owner.child.send(other[5:] + PLAIN)
    owner.run()
    assert owner.doubts == [one, other]
    assert owner.commands == [WANTED, PLAIN]
    assert not owner.gone


@pytest.mark.parametrize("wrong", [DOUBT + b"0123456789abcdef", DOUBT + b"G" * 16, b"0" * 16])
def test_what_is_no_digest_ends_a_process(owner: Owner, wrong: bytes) -> None:
    owner.serve()
    owner.child.send(wrong)
    owner.run()
    assert owner.gone == ["it sent something that is not a command"]
    assert not owner.doubts
