# SPDX-License-Identifier: Apache-2.0
"""Response bodies are rendered once per reading, and slow ones seldom."""

from __future__ import annotations

import pytest

from slabmon.web.feeds.readings import SHARED_SECONDS, Now, Reading
from slabmon.web.handlers import bodies
from slabmon.web.handlers.bodies import Renderer
from tests.support.builders import snapshot


class Clock:
    """Time passes only while a body is rendered, and as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.takes = 0.0
        self.rendered: list[str] = []
        self.renderer = Renderer()
        monkeypatch.setattr(bodies, "boottime", lambda: self.now)
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def ask(self, kind: str, number: int, problem: str = "") -> bytes:
        """Return the body for a reading of this number: the number that it was rendered of."""

        def render(now: Now) -> bytes:
            self.now += self.takes
            self.rendered.append(kind)
            return b"%d" % number

        reading = Reading(number, self.now, 0.01, False, snapshot())
        return self.renderer.body(kind, Now(reading, None, problem), render).data


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_one_body_is_rendered_of_a_reading(clock: Clock) -> None:
    assert [clock.ask("text", 1) for _ in range(3)] == [b"1"] * 3
    assert clock.ask("text", 2) == b"2"
    clock.now += SHARED_SECONDS + 0.1
    assert clock.ask("text", 2) == b"2"
    assert clock.rendered == ["text"] * 3


def test_a_slow_body_is_served_for_twice_the_time_it_took(clock: Clock) -> None:
    clock.takes = 7.0
    clock.ask("text", 1)
    clock.now += 14.0
    assert clock.ask("text", 2) == b"1"
    clock.now += 0.1
    assert clock.ask("text", 3) == b"3"


def test_after_a_slow_body_others_that_are_there_are_served(clock: Clock) -> None:
    """Else a client would wait for one format after another."""
    clock.takes = 0.3
    assert [clock.ask(kind, 1) for kind in ("text", "open")] == [b"1", b"1"]
    clock.now += 0.61
    assert [clock.ask(kind, 2) for kind in ("text", "open")] == [b"2", b"1"]
    clock.now += 0.61
    assert clock.ask("open", 3) == b"3"


def test_a_body_that_is_old_is_not_served(clock: Clock) -> None:
    """Others must not keep a client from what is new."""
    clock.takes = 0.3
    clock.ask("text", 1)
    clock.now += 5.1
    clock.ask("open", 2)
    assert clock.ask("text", 2) == b"2"


def test_a_problem_is_said_at_once(clock: Clock) -> None:
    clock.takes = 0.3
    clock.ask("text", 1)
    clock.ask("text", 1, "no reading within 1 s")
    assert clock.rendered == ["text", "text"]
