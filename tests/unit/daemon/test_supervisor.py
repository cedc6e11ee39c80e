# SPDX-License-Identifier: Apache-2.0
"""The supervisor's states: candidate, current, retired, and the back-off between restarts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost, UsageError
from slabmon.daemon.supervisor import (
    CHECK_SECONDS,
    LONGEST_DELAY,
    RETIRED_CHECKS,
    SILENT_CHECKS,
    STABLE_SECONDS,
    START_SECONDS,
    Supervisor,
)
from slabmon.runtime.channel import ALIVE, PLAIN, RETIRE, Answer, Started
from slabmon.runtime.event_loop import EventLoop
from slabmon.runtime.figures import DaemonFigures
from slabmon.runtime.files import identity
from slabmon.web.settings import ProcessSettings, WebSettings
from tests.support.children import FakeChild, FakeSpawner, ManualClock


class Host:
    """A supervisor, its children and the time."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.loop = EventLoop(self.clock)
        self.spawner = FakeSpawner()
        self.processes: list[Sequence[int]] = []
        self.supervisor = Supervisor(
            self.loop,
            WebSettings(),
            [],
            lambda process, command: process.answer(Answer(command, True, DaemonFigures())),
            lambda _: None,
            self.processes.append,
            self.spawner,
        )
        self._open: Supervisor | None = self.supervisor

    @property
    def children(self) -> list[FakeChild]:
        return self.spawner.children

    def run(self, seconds: float = 0.0) -> None:
        self.clock.run(self.loop, seconds)

    def run_until_another_starts(self) -> None:
        count, end = len(self.children), self.clock.now + 2 * LONGEST_DELAY
        while len(self.children) == count and self.clock.now < end:
            self.run(0.1)

    def live(self, seconds: float) -> None:
        """Let time pass in which every child that is up shows that it is alive."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            for child in self.children:
                if child.reported and child.code is None:
                    child.send(ALIVE)
            self.run(min(CHECK_SECONDS, end - self.clock.now))

    def close(self) -> None:
        """End everything, once."""
        supervisor, self._open = self._open, None
        if supervisor:
            supervisor.close()
            self.loop.close()

    def serve(self, started: Started | None = None) -> FakeChild:
        """Have the child that was started last report, and return it."""
        self.spawner.last.start(started)
        self.run()
        return self.spawner.last


@pytest.fixture
def host() -> Iterator[Host]:
    result = Host()
    yield result
    result.close()
    result.spawner.close()


def test_the_first_process_serves_once_it_has_reported(host: Host) -> None:
    assert host.supervisor.pid is None
    child = host.serve(Started(tls=True))
    host.supervisor.wait_until_started()
    assert host.supervisor.pid == child.pid
    assert host.supervisor.tls


@pytest.mark.parametrize(
    ("code", "kind"),
    [(2, UsageError), (3, PermissionDenied), (4, UnsupportedHost), (70, SlabmonError)],
)
def test_the_error_of_the_first_start_is_that_of_the_daemon(
    host: Host, code: int, kind: type[SlabmonError]
) -> None:
    host.serve(Started(error="the reason", exit_code=code))
    with pytest.raises(kind, match="the reason") as caught:
        host.supervisor.wait_until_started()
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [(-9, UnsupportedHost, "ended early: signal 9.*MemoryMax="), (-11, SlabmonError, "signal 11$")],
)
def test_a_first_process_that_dies_at_once_is_an_error_that_says_how(
    host: Host, status: int, kind: type[SlabmonError], words: str
) -> None:
    host.spawner.last.exit(status)
    host.run()
    with pytest.raises(kind, match=words) as caught:
        host.supervisor.wait_until_started()
    assert type(caught.value) is kind
    assert len(host.children) == 1


def test_a_first_process_that_reports_nothing_is_an_error(host: Host) -> None:
    host.loop.every(0, lambda: setattr(host.clock, "now", host.clock.now + START_SECONDS))
    with pytest.raises(SlabmonError, match="did not start in time"):
        host.supervisor.wait_until_started()


def test_one_that_dies_is_restarted_ever_more_slowly(host: Host) -> None:
    delays = []
    for _ in range(8):
        host.serve().exit(1)
        died = host.clock.now
        host.run_until_another_starts()
        delays.append(host.clock.now - died)
    assert delays == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60], abs=0.25)
    assert host.supervisor.restarts == 8


def test_only_one_with_new_settings_must_be_able_to_write_history(host: Host) -> None:
    def is_replacement() -> bool:
        return ProcessSettings.unpack(host.spawner.last.settings()).replacement

    assert not is_replacement()
    host.serve().exit(1)
    host.run_until_another_starts()
    assert is_replacement()
    host.serve()
    host.supervisor.reload()
    assert is_replacement()
    host.serve()
    host.supervisor.reconfigure(WebSettings(max_series=2000))
    assert not is_replacement()


def test_one_that_was_stable_is_restarted_quickly_again(host: Host) -> None:
    for _ in range(5):
        host.serve().exit(1)
        host.run_until_another_starts()
    child = host.serve()
    host.live(STABLE_SECONDS + 5)
    child.exit(-11)
    host.run(1.2)
    assert host.spawner.last is not child


def test_there_is_none_between_death_and_restart(host: Host) -> None:
    host.serve().exit(1)
    host.run()
    assert host.supervisor.pid is None
    host.run(1.2)
    assert host.supervisor.pid is None, "the new one has not reported"
    second = host.serve()
    assert host.supervisor.pid == second.pid


def test_a_changed_file_replaces_it_and_the_old_one_serves_until_then(
    host: Host, tmp_path: Path
) -> None:
    path = tmp_path / "web.yml"
    path.write_text("a")
    first = host.serve(Started(files={str(path): identity(str(path))}))
    host.live(10)
    assert len(host.children) == 1
    path.write_text("other")
    host.live(2 * CHECK_SECONDS)
    second = host.spawner.last
    assert second is not first
    assert host.supervisor.pid == first.pid
    first.send(PLAIN)
    host.run()
    assert [answer.kind for answer in first.answers()] == [PLAIN]
    host.serve(Started(files={str(path): identity(str(path))}))
    assert host.supervisor.pid == second.pid
    assert [answer.kind for answer in first.answers()] == [RETIRE]
    host.live(20)
    assert len(host.children) == 2, "the files are as they were read"
    assert host.supervisor.restarts == 0, "a replacement is not a restart"


def test_a_file_that_becomes_invalid_changes_nothing_but_a_figure(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "web.yml"
    path.write_text("a")
    files = {str(path): identity(str(path))}
    first = host.serve(Started(files=files))
    path.write_text("broken")
    host.live(2 * CHECK_SECONDS)
    broken = {str(path): identity(str(path))}
    host.serve(Started(files=broken, error="line 1 is wrong", exit_code=2)).exit(2)
    host.live(20)
    assert host.supervisor.pid == first.pid
    assert host.supervisor.configuration_failed
    assert "line 1 is wrong" in caplog.text
    assert len(host.children) == 2, "it is not tried again before it changes"
    path.write_text("valid again")
    host.live(2 * CHECK_SECONDS)
    third = host.serve(Started(files={str(path): identity(str(path))}))
    assert host.supervisor.pid == third.pid
    assert not host.supervisor.configuration_failed


def test_a_retired_process_that_does_not_end_is_killed(host: Host) -> None:
    first = host.serve()
    host.supervisor.reload()
    host.serve()
    host.live((RETIRED_CHECKS - 1) * CHECK_SECONDS)
    assert not first.killed
    host.live(3 * CHECK_SECONDS)
    assert first.killed


def test_one_that_hangs_is_replaced(host: Host) -> None:
    first = host.serve()
    host.run(SILENT_CHECKS * CHECK_SECONDS - 1)
    assert not first.killed
    host.run(3 * CHECK_SECONDS)
    assert first.killed
    assert host.spawner.last is not first


def test_one_that_shows_life_is_left_alone(host: Host) -> None:
    first = host.serve()
    host.live(10 * SILENT_CHECKS * CHECK_SECONDS)
    assert host.supervisor.pid == first.pid


def test_time_in_which_the_collector_did_not_run_is_not_silence(host: Host) -> None:
    first = host.serve()
    host.clock.now += 100 * SILENT_CHECKS * CHECK_SECONDS
    host.live(10)
    assert host.supervisor.pid == first.pid
    assert not first.killed


def test_the_candidate_stays_when_the_process_before_it_dies(host: Host) -> None:
    first = host.serve()
    host.supervisor.reload()
    first.exit(-9)
    host.run()
    second = host.serve()
    assert host.supervisor.pid == second.pid
    host.live(10)
    assert host.children == [first, second]


def test_new_settings_reach_the_process_even_while_another_one_starts(host: Host) -> None:
    host.serve()
    host.supervisor.reload()
    outdated = host.spawner.last
    host.supervisor.reconfigure(WebSettings(max_series=2000))
    newest = host.spawner.last
    assert newest is not outdated
    assert ProcessSettings.unpack(newest.settings()).max_series == 2000
    outdated.start()
    host.run()
    assert host.supervisor.pid not in (outdated.pid, newest.pid)
    host.serve()
    assert host.supervisor.pid == newest.pid
    host.live((RETIRED_CHECKS + 2) * CHECK_SECONDS)
    assert outdated.killed


def test_close_ends_all_of_them(host: Host) -> None:
    first = host.serve()
    host.supervisor.reload()
    host.close()
    assert first.killed
    assert host.spawner.last.killed
    assert len(host.children) == 2


def test_the_owner_knows_every_process_that_may_hold_the_sockets(host: Host) -> None:
    first = host.serve()
    host.supervisor.reload()
    second = host.serve()
    host.supervisor.reload()
    third = host.spawner.last
    assert [set(pids) for pids in host.processes] == [
        {first.pid},
        {first.pid, second.pid},
        {first.pid, second.pid, third.pid},
    ]


def test_no_room_for_a_process_is_no_end_of_the_collector(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: FakeChild) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    first = host.serve()
    host.spawner.prepare = refuse
    host.supervisor.reload()
    assert host.supervisor.pid == first.pid
    first.exit(-9)
    host.run(10)
    assert caplog.text.count("Resource temporarily unavailable") >= 3
    assert host.supervisor.restarts == 0
    host.spawner.prepare = lambda _: None
    host.run_until_another_starts()
    assert host.serve().pid == host.supervisor.pid
    assert host.supervisor.restarts == 1
