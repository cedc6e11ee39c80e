# SPDX-License-Identifier: Apache-2.0
"""Adoption: when what an earlier daemon left is used, when not, and why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import pytest

from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.loading.loader import Programs, map_names
from slabmon.kernel.planning.plan import Plan, make_plan
from slabmon.kernel.probe.facts import Facts
from slabmon.kernel.session_state import SessionState
from slabmon.kernel.settings import Settings
from slabmon.runtime.systemd import Notifier
from slabmon.state import continuity as module
from slabmon.state.continuity import RECORD, Continuity, find_continuity
from slabmon.state.descriptor_store import KeepError
from slabmon.state.fingerprint import differences, fingerprint
from slabmon.state.record_map import BYTES, StateRecord
from slabmon.state.settings import StateSettings
from tests.support.hosts import facts as facts_of
from tests.unit.state.test_record_map import STATE


class Place:
    """A keeper in memory."""

    where = "a drawer"

    def __init__(self) -> None:
        self.objects: dict[str, int] = {}
        self.broken = False
        self.finished = False

    def take(self) -> dict[str, int]:
        return {name: os.dup(fd) for name, fd in self.objects.items()}

    def keep(self, objects: Mapping[str, int]) -> None:
        if self.broken:
            raise KeepError("it is full")
        self.objects |= {name: os.dup(fd) for name, fd in objects.items()}

    def forget(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.objects:
                os.close(self.objects.pop(name))

    def finish(self) -> None:
        self.finished = True
        self.forget(list(self.objects))


def memory_file() -> int:
    descriptor = os.memfd_create("object")
    os.ftruncate(descriptor, BYTES)
    return descriptor


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(module, "create_map", memory_file)
    result = Place()
    yield result
    result.forget(list(result.objects))


FACTS = facts_of("6.18")
PLAN = make_plan(FACTS, Settings())


def loaded(plan: Plan) -> Programs:
    """Programs of a plan on a kernel that refuses one of them."""
    sizes = dict.fromkeys((*plan.attach.values(), *plan.run), 99)
    sizes |= dict.fromkeys(plan.hooks.keys() - {"on_bulk_alloc"}, 99)
    return Programs(
        {name: memory_file() for name in map_names(plan)},
        {name: memory_file() for name in sizes},
        sizes,
        {name: memory_file() for name in (*plan.attach, *(plan.hooks.keys() & sizes.keys()))},
    )


def session(
    place: Place, facts: Facts = FACTS, plan: Plan = PLAN
) -> tuple[Continuity, SessionState | None]:
    """Start one daemon; return the state it adopted."""
    continuity = Continuity(place)
    adopted = continuity.adopt(facts, plan)
    programs, saved = adopted or (loaded(plan), None)
    continuity.begin(programs, STATE)
    programs.close()
    return continuity, saved


def test_what_a_crashed_daemon_left_is_adopted(place: Place) -> None:
    first, saved = session(place)
    assert saved is None
    assert first.feature.state == "on"
    kept = dict(place.objects)
    second, saved = session(place)
    assert saved == STATE
    assert place.objects == kept, "nothing is kept twice"
    second.outlast()
    second.close(requested=False)
    assert place.objects == kept
    third, saved = session(place)
    assert saved == STATE
    third.close(requested=True)
    assert not place.objects


def test_a_start_that_fails_leaves_nothing_of_its_own(place: Place) -> None:
    continuity, _ = session(place)
    assert place.objects
    continuity.close(requested=False)
    assert not place.objects


def test_a_session_outlasts_a_failure_after_its_start(place: Place) -> None:
    continuity, _ = session(place)
    continuity.outlast()
    continuity.close(requested=False)
    assert place.objects
    assert not place.finished


@pytest.mark.parametrize("adopts", [True, False])
def test_a_start_that_fails_leaves_what_an_earlier_daemon_kept(place: Place, adopts: bool) -> None:
    session(place)
    kept = dict(place.objects)
    continuity = session(place)[0] if adopts else Continuity(place)
    continuity.close(requested=False)
    assert place.objects == kept
    assert session(place)[1] == STATE


def test_a_start_that_fails_leaves_nothing_in_place_of_what_differed(place: Place) -> None:
    session(place)
    continuity, saved = session(place, plan=make_plan(FACTS, Settings(samples=4096)))
    assert saved is None
    continuity.close(requested=False)
    assert not place.objects


@pytest.mark.parametrize(
    ("facts", "settings", "reason"),
    [
        (replace(FACTS, boot_id="other"), Settings(), "another boot"),
        (replace(FACTS, release="6.19"), Settings(), "the kernel is another"),
        (FACTS, Settings(samples=4096), "SAMPLES was 131072, is 4096"),
        (FACTS, Settings(pages=True), "other tracepoints"),
        (FACTS, Settings(exact=Filter(site="probe")), "filter of exact mode"),
        (replace(FACTS, offsets={**FACTS.offsets, "OFF_CACHE_NAME": 4}), Settings(), "was"),
    ],
)
def test_what_differs_is_loaded_again_and_the_reason_logged(
    place: Place, caplog: pytest.LogCaptureFixture, facts: Facts, settings: Settings, reason: str
) -> None:
    session(place)
    old = dict(place.objects)
    saved = session(place, facts, make_plan(facts, settings))[1]
    assert saved is None
    assert reason in caplog.text
    assert set(place.objects) >= {RECORD, "map-pool"}
    assert place.objects != old


def test_the_sampling_interval_is_no_reason(place: Place) -> None:
    session(place)
    assert session(place, plan=make_plan(FACTS, Settings(sample_bytes=4096)))[1]


@pytest.mark.parametrize("name", ["map-pool", "program-on_kfree", "link-kmalloc", RECORD])
def test_what_is_incomplete_is_not_adopted(
    place: Place, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    session(place)
    place.forget([name])
    assert not session(place)[1]
    assert "incomplete" in caplog.text
    assert session(place)[1], "and what was loaded anew is complete"


def test_a_missing_attachment_of_an_extra_is_no_obstacle(place: Place) -> None:
    session(place)
    place.forget(["link-devres_log"])
    assert session(place)[1]


def test_a_damaged_record_is_not_adopted(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    session(place)
    record = StateRecord(place.objects[RECORD])
    record.read()
    document = {"fingerprint": fingerprint(FACTS, PLAN), "instructions": {}}
    record.write({**document, "memory": {"since": []}})
    assert not session(place)[1]
    assert "damaged" in caplog.text


def test_where_nothing_can_be_kept_counting_goes_on_and_says_so(place: Place) -> None:
    place.broken = True
    continuity, _ = session(place)
    assert continuity.feature.state == "degraded"
    assert "it is full" in continuity.feature.reason
    continuity.save(STATE)
    continuity.close(requested=False)
    assert place.finished


def test_a_full_record_drops_places_first_and_then_gives_up(place: Place) -> None:
    continuity, _ = session(place)
    big = os.urandom(BYTES).hex()
    place_name = next(iter(STATE.locations.values()))._replace(symbol=big)
    continuity.save(replace(STATE, locations={(1, 1): place_name}))
    assert continuity.feature.state == "degraded"
    assert session(place)[1] == STATE.without_locations()
    continuity.save(replace(STATE, caches=((1, big, True),)))
    assert "starts the counters again" in continuity.feature.reason
    assert not place.objects


def test_many_differences_are_cut_short() -> None:
    assert differences({}, {f"define A{i}": i for i in range(9)})[-1] == "and 6 more differences"
    assert differences({"define A": 1}, {}) == ["A was 1, is None"]


def test_what_is_detached_for_a_while_is_not_kept_meanwhile(place: Place) -> None:
    continuity = Continuity(place)
    continuity.adopt(FACTS, PLAN)
    programs = Programs({}, {}, {}, {"kfree": memory_file(), "mm_page_free": memory_file()})
    continuity.begin(programs, STATE)
    assert set(place.objects) == {"link-kfree", "link-mm_page_free", RECORD}
    programs.detach({"mm_page_free", "mm_page_alloc"})
    continuity.update(programs)
    assert set(place.objects) == {"link-kfree", RECORD}
    programs._links["mm_page_free"] = memory_file()
    continuity.update(programs)
    assert set(place.objects) == {"link-kfree", "link-mm_page_free", RECORD}
    programs.close()


@pytest.mark.parametrize("keep", [True, False])
def test_what_is_not_to_be_kept_is_given_up(
    monkeypatch: pytest.MonkeyPatch, place: Place, keep: bool
) -> None:
    session(place)
    monkeypatch.setattr(module, "Pins", lambda directory: place)
    found = find_continuity(StateSettings(keep=keep), Notifier(None), [])
    assert (found is not None) == keep
    assert bool(place.objects) == keep
