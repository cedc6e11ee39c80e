# SPDX-License-Identifier: Apache-2.0
"""Opening a session: what is started when, which of the two ways is taken, what stays open."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from slabmon.base.errors import SlabmonError
from slabmon.kernel import session
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.planning.plan import Plan
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from tests.support.hosts import facts


class Host:
    """What an opening session does, in order, on a host without a kernel side."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.plan: Plan | None = None
        self.broken = ""

    def note(self, what: str) -> None:
        self.log.append(what)
        if what == self.broken:
            raise SlabmonError(what)


class Closing:
    """Something that notes when it is closed."""

    def __init__(self, host: Host, name: str) -> None:
        self.host, self.name = host, name

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.host.note(f"{self.name} is closed")


class FakeCompiler(Closing):
    def start(self, plan: Plan) -> None:
        self.host.plan = plan
        self.host.note("compile")

    def finish(self) -> Closing:
        self.host.note("compiled")
        return Closing(self.host, "programs")

    def close(self) -> None:
        pass


class FakeCheckpoint:
    """Left by an earlier process; usable or not."""

    def __init__(self, host: Host, found: bool, usable: bool) -> None:
        self.host, self.found, self.usable = host, found, usable

    def adopt(self, *_: Any) -> tuple[Any, Any] | None:
        self.host.note("adopt")
        saved = SimpleNamespace(modules="old modules")
        return (Closing(self.host, "programs"), saved) if self.usable else None


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()

    def compiler() -> FakeCompiler:
        host.note("compiler")
        return FakeCompiler(host, "compiler")

    def symbols(history: object = None) -> str:
        host.note(f"symbols of {history}" if history else "symbols")
        return "symbols"

    def begin(way: str) -> Any:
        def tracker(*_: Any, **arguments: Any) -> Any:
            host.note(way)
            return SimpleNamespace(close=lambda: host.note("tracker is closed"), **arguments)

        return tracker

    cgroups = SimpleNamespace(find_at=lambda path: {"/job": (77, 1)}[path])
    monkeypatch.setattr(session, "Compiler", compiler)
    monkeypatch.setattr("slabmon.kernel.probe.facts.probe", facts)
    monkeypatch.setattr("slabmon.kernel.probe.cgroups.Cgroups", lambda v1: cgroups)
    monkeypatch.setattr("slabmon.kernel.symbols.kallsyms.Symbols", symbols)
    monkeypatch.setattr(Tracker, "start", begin("start"))
    monkeypatch.setattr(Tracker, "resume", begin("resume"))
    return host


def opened(host: Host, settings: Settings, checkpoint: FakeCheckpoint | None = None) -> list[str]:
    with session.open_tracker(
        settings,
        checkpoint,  # type: ignore[arg-type]
        lambda: host.note("checked"),
    ) as tracker:
        kept_in: object = tracker.checkpoint
        assert kept_in is checkpoint
        host.note("open")
    return host.log


CLOSED = ["tracker is closed", "programs is closed", "compiler is closed"]


def test_a_new_session_compiles_while_symbols_are_read(host: Host) -> None:
    steps = ["compiler", "compile", "checked", "symbols", "compiled", "start", "open"]
    assert opened(host, Settings()) == [*steps, *CLOSED]


def test_a_first_daemon_starts_its_compiler_at_once(host: Host) -> None:
    log = opened(host, Settings(), FakeCheckpoint(host, found=False, usable=False))
    assert log[:4] == ["compiler", "compile", "checked", "adopt"]
    assert log.count("compile") == 1


def test_a_session_that_was_kept_is_resumed_without_a_compiler(host: Host) -> None:
    log = opened(host, Settings(), FakeCheckpoint(host, found=True, usable=True))
    assert log == ["checked", "adopt", "symbols of old modules", "resume", "open", *CLOSED[:2]]


def test_what_cannot_be_adopted_is_replaced_by_a_new_session(host: Host) -> None:
    log = opened(host, Settings(), FakeCheckpoint(host, found=True, usable=False))
    assert log[:6] == ["checked", "adopt", "compiler", "compile", "symbols", "compiled"]
    assert log[6] == "start"


def test_the_filters_cgroup_is_planned_by_its_id(host: Host) -> None:
    opened(host, Settings(exact=Filter(cgroup="/job")))
    assert host.plan is not None
    assert host.plan.defines["EXACT_CGROUP"] == 77


def test_what_is_found_before_loading_leaves_what_was_kept(host: Host) -> None:
    host.broken = "checked"
    with pytest.raises(SlabmonError, match="checked"):
        opened(host, Settings(), FakeCheckpoint(host, found=True, usable=False))
    assert host.log == ["checked"]


@pytest.mark.parametrize("broken", ["checked", "symbols", "compiled", "start"])
def test_a_start_that_fails_leaves_nothing_open(host: Host, broken: str) -> None:
    host.broken = broken
    with pytest.raises(SlabmonError, match=broken):
        opened(host, Settings())
    assert host.log[-1] == "compiler is closed"
    assert ("programs is closed" in host.log) == (broken == "start")
