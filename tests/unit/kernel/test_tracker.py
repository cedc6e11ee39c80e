# SPDX-License-Identifier: Apache-2.0
"""Facts that change while a session runs: filters follow modules, sites get their names."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slabmon.base.errors import UnsupportedHost, UsageError
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.exact_target import EVERYTHING, Target, find_target
from slabmon.kernel.planning.plan import Plan, make_plan
from slabmon.kernel.probe import slabinfo
from slabmon.kernel.probe.cgroups import Cgroups
from slabmon.kernel.probe.components import Components
from slabmon.kernel.programs import PAGE_EVENTS, Direction, attachments
from slabmon.kernel.session_state import Pauses
from slabmon.kernel.settings import Settings, When
from slabmon.kernel.symbols.kallsyms import UNKNOWN
from slabmon.kernel.tables.stacks import StackNames
from slabmon.kernel.tracker import Tracker
from slabmon.model import FeatureState, Slabinfo, State
from tests.support.hosts import facts, without
from tests.support.kallsyms import MODULE, Host, drivers

SIZE = 0x1000


class Session(SimpleNamespace):
    """A tracker without programs, on a host whose files a test writes."""

    _first_text: Any = Tracker._first_text
    _refresh_symbols: Any = Tracker._refresh_symbols
    _follow_filter: Any = Tracker._follow_filter
    _follow_modules: Any = Tracker._follow_modules
    _check_cgroup: Any = Tracker._check_cgroup
    _function: Any = Tracker._function
    _location: Any = Tracker._location
    _modules_on: Any = Tracker._modules_on
    _follow_walks: Any = Tracker._follow_walks
    _slabinfo: Any = Tracker._slabinfo
    _module_generation = 0
    _stack_names: Any

    def __init__(
        self, host: Host, settings: Settings, target: Target = EVERYTHING, **changes: Any
    ) -> None:
        host_facts = facts(**changes)
        plan = make_plan(host_facts, settings, target)
        super().__init__(
            facts=host_facts,
            plan=plan,
            features=dict(plan.features),
            symbols=host.symbols(),
            reader=SimpleNamespace(select_text=lambda text: self.texts.append(text)),
            texts=[],
            shed=frozenset(),
            cleared=0,
            _locations={},
            _functions={},
            _components=Components(["card"]),
            _unsaved=False,
        )
        self._stack_names = SimpleNamespace(clear=self._clear)
        self._paths = SimpleNamespace(clear=lambda: None)

    def _clear(self) -> None:
        self.cleared += 1


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    drivers(host, {"card": MODULE})
    return host


@pytest.mark.parametrize("exact", [Filter(module="card"), Filter(site="card_probe")])
def test_the_filter_follows_its_module_to_another_address(host: Host, exact: Filter) -> None:
    session = Session(host, Settings(exact=exact))
    session._follow_filter()
    assert session.texts[-1][0][0] == MODULE
    host.unload("card")
    session.symbols.module_freed("card", 1)
    session.symbols.refresh(1)
    session._follow_filter()
    assert session.texts[-1] == ()
    assert session.features["exact_filter"].state == State.DEGRADED
    assert "card" in session.features["exact_filter"].reason
    drivers(host, {"card": MODULE + 0x8000})
    session.symbols.module_loaded("card", [(MODULE + 0x8000, MODULE + 0x8000 + SIZE)], 2)
    session.symbols.refresh(2)
    session._follow_filter()
    assert session.texts[-1][0][0] == MODULE + 0x8000
    assert session.features["exact_filter"].state == State.ON


def test_a_module_that_is_not_loaded_yet_is_waited_for(host: Host) -> None:
    session = Session(host, Settings(exact=Filter(module="late")))
    assert session._first_text() == ()
    assert session.features["exact_filter"].state == State.DEGRADED
    assert "not loaded" in session.features["exact_filter"].reason
    drivers(host, {"late": MODULE + 0x8000})
    session.symbols.module_loaded("late", [(MODULE + 0x8000, MODULE + 0x8000 + SIZE)], 1)
    session.symbols.refresh(1)
    session._follow_filter()
    assert session.texts == [((MODULE + 0x8000, MODULE + 0x8000 + SIZE),)]
    assert session.features["exact_filter"].state == State.ON


def test_a_module_that_cannot_be_meant_is_refused(host: Host) -> None:
    session = Session(host, Settings(exact=Filter(module="cards")))
    with pytest.raises(UsageError, match="module=cards: no such module; near names: card"):
        session._first_text()


def test_symbols_that_are_hidden_later_are_a_degraded_feature(host: Host) -> None:
    """kernel.kptr_restrict is set to 2 while the daemon runs, and back."""
    session = Session(host, Settings(exact=Filter(module="card")))
    host.hide()
    session._refresh_symbols()
    session._follow_filter()
    assert session.features["symbols"].state == State.DEGRADED
    assert "kptr_restrict" in session.features["symbols"].reason
    assert session.texts[-1][0][0] == MODULE, "it is where it was"
    host.hidden = False
    host.write()
    session._refresh_symbols()
    assert session.features["symbols"].state == State.ON


def test_devices_that_cannot_be_walked_are_a_degraded_feature_until_they_can(host: Host) -> None:
    """A container of its own network may have no loopback interface that is up."""
    session = Session(host, Settings())
    session._follow_walks("no packet could be sent to 127.0.0.1")
    assert session.features["device_inventory"].state == State.DEGRADED
    assert "127.0.0.1" in session.features["device_inventory"].reason
    session._follow_walks("")
    assert session.features["device_inventory"] == session.plan.features["device_inventory"]


def test_other_filters_and_sampling_do_not_look_for_text(host: Host) -> None:
    for settings in (Settings(), Settings(exact=Filter(cache="dentry"))):
        session = Session(host, settings)
        session._follow_filter()
        assert session.texts == []


def test_a_cgroup_that_is_made_again_is_reported(host: Host, tmp_path: Path) -> None:
    """Its id is compiled into the programs."""
    (tmp_path / "root" / "job").mkdir(parents=True)
    (tmp_path / "mounts").write_text(f"cgroup2 {tmp_path / 'root'} cgroup2 rw 0 0\n")
    cgroups = Cgroups(tmp_path / "mounts")
    settings = Settings(exact=Filter(cgroup="/job"))
    session = Session(host, settings, find_target(settings.exact, cgroups))
    session._cgroups = cgroups
    session._check_cgroup()
    assert session.features["exact_filter"].state == State.ON
    (tmp_path / "root" / "job").rename(tmp_path / "old")
    session._check_cgroup()
    assert "No such file" in session.features["exact_filter"].reason
    (tmp_path / "root" / "job").mkdir()
    session._check_cgroup()
    assert "made again" in session.features["exact_filter"].reason


def test_without_module_events_a_module_loaded_later_still_gets_its_name(host: Host) -> None:
    prototypes = without(facts().prototypes, "module_load", "module_free")
    session = Session(host, Settings(), prototypes=prototypes)
    late = MODULE + 0x8000
    assert session._location(MODULE + 4, 0).module == "card"
    assert session._location(late + 4, 0).symbol == UNKNOWN
    session._follow_modules()
    assert session.cleared == 0
    drivers(host, {"late": late})
    session._follow_modules()
    assert session.cleared == 1, "frames of stacks have other names"
    assert session._location(late + 4, 0).module == "late"
    assert session._location(MODULE + 4, 0).module == "card"


def test_frames_of_stacks_are_not_kept_for_each_change_of_modules(host: Host) -> None:
    """Those of call sites are: nothing else tells of a module that is gone."""
    session = Session(host, Settings())
    session._stack_table = SimpleNamespace(frames=lambda stack: [MODULE + 5])
    session._stack_names = StackNames(session._stack_table.frames, session.symbols.resolve)
    for session._module_generation in range(3):
        assert session._modules_on(7) == {"card"}
    assert session._locations == {}
    assert not session._unsaved


def test_with_module_events_files_are_not_compared(host: Host) -> None:
    session = Session(host, Settings())
    drivers(host, {"late": MODULE + 0x8000})
    session._follow_modules()
    assert session.cleared == 0


def test_slabinfo_is_not_read_where_that_is_refused(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[None] = []
    row = {"dentry": Slabinfo(1, 1, 192, 4096)}

    def read() -> dict[str, Slabinfo]:
        reads.append(None)
        return row

    monkeypatch.setattr(slabinfo, "read", read)
    assert Session(host, Settings())._slabinfo() == row
    assert Session(host, Settings(slabinfo=False))._slabinfo() == {}
    assert len(reads) == 1


COUNTERS = attachments(Direction.ALLOC) | attachments(Direction.FREE)


class FakePrograms:
    """Attachments of a kernel that refuses some events."""

    def __init__(self, refused: Set[str] = frozenset()) -> None:
        self.attached_events: set[str] = set()
        self.refused = refused

    def attach_hooks(self, plan: Plan) -> dict[str, str]:
        self.attached_events |= plan.hooks.keys()
        return {}

    def attach(self, plan: Plan, events: Set[str], required: bool) -> dict[str, str]:
        self.attached_events |= events - self.refused
        failed = dict.fromkeys(events & self.refused, "cannot attach: refused")
        if failed and required:
            raise UnsupportedHost("the kernel refused")
        return failed

    def detach(self, events: Set[str]) -> None:
        self.attached_events -= events


class Sleeper(SimpleNamespace):
    """A tracker that sleeps and wakes, on fake programs; `saved` is its stored state."""

    awake: Any = Tracker.awake
    sleep: Any = Tracker.sleep
    wake: Any = Tracker.wake
    _attach_counters: Any = Tracker._attach_counters
    _attach_optional: Any = Tracker._attach_optional
    _attach_pages: Any = Tracker._attach_pages
    watch_pages: Any = Tracker.watch_pages
    _pause: Any = Tracker._pause

    def __init__(self, refused: Set[str] = frozenset(), settings: Settings | None = None) -> None:
        plan = make_plan(facts(), settings or Settings(pages=True))
        super().__init__(
            plan=plan,
            features=dict(plan.features),
            shed=frozenset(),
            programs=FakePrograms(refused),
            reader=SimpleNamespace(forget_tracked=lambda: None, control={}),
            pauses=Pauses(began=1.0),
            _paths=SimpleNamespace(forget_pages=lambda: None),
            _pages_always=plan.settings.pages,
            _pages_watched=plan.settings.pages,
            saved=[],
            _net=lambda: {"kmalloc-64": 3},
            _save=lambda: self.saved.append((self.awake, self.counting)),
            _follow_attachments=lambda: None,
        )

    @property
    def counting(self) -> bool:
        return bool(self.programs.attached_events & COUNTERS)


def test_a_refused_wake_leaves_nothing_attached() -> None:
    session = Sleeper(refused={"kfree"})
    with pytest.raises(UnsupportedHost):
        session.wake("test")
    assert not session.awake
    assert not session.counting, "frees alone would be counted as if it was awake"
    session.programs.refused = frozenset()
    session.wake("test")
    assert session.awake
    assert session.counting
    assert session.pauses.net == {"kmalloc-64": 3}


def test_a_kill_in_the_middle_of_falling_asleep_leaves_a_session_that_sleeps() -> None:
    session = Sleeper()
    session.wake("test")
    session.saved.clear()
    session.sleep()
    assert session.saved == [(False, True), (False, False)], "stored before anything is detached"


def test_an_event_that_is_refused_disables_its_feature() -> None:
    session = Sleeper(refused={"mm_page_alloc"})
    session.wake("test")
    assert session.features.keys() == session.plan.features.keys()
    assert session.features["pages"] == FeatureState(State.OFF, "cannot attach: refused")


def test_pages_are_watched_when_asked_for_until_it_sleeps() -> None:
    session = Sleeper(settings=Settings(when=When.AUTO))
    planned = session.plan.features["pages"]
    session.watch_pages(True)
    assert not session.counting, "it is asleep"
    session.wake("test")
    assert session.programs.attached_events >= PAGE_EVENTS
    assert session.features["pages"] == FeatureState(State.ON)
    session.watch_pages(False)
    assert not session.programs.attached_events & PAGE_EVENTS
    assert session.features["pages"] == planned
    session.watch_pages(True)
    session.sleep()
    session.wake("again")
    assert not session.programs.attached_events & PAGE_EVENTS


def test_without_tracked_pages_no_block_is_freed_in_parts() -> None:
    session = Sleeper()
    session.wake("test")
    session.reader.control["split_orders"] = 1 << 3
    session.sleep()
    session.wake("again")
    assert session.reader.control["split_orders"] == 0
