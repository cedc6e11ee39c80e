# SPDX-License-Identifier: Apache-2.0
"""slabmon's ledger of the planted devices while they are bound, unbound, refused and taken away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from slabmon.model import Device, Snapshot
from tests.vm.guest import planted as module
from tests.vm.guest.observed import assert_ledger_is_the_modules_walk
from tests.vm.guest.test_planted_devices import BAD, DRIVER, GOOD

IN_VAIN = 13  # resources that come and go with each probe that fails


@pytest.fixture
def tracker(planted: None) -> Iterator[Tracker]:
    with open_tracker(Settings()) as session:
        yield session


def rows(snapshot: Snapshot) -> dict[str, Device]:
    """The planted devices by name."""
    return {row.name: row for row in snapshot.devices if row.name in (*GOOD, BAD)}


def check(tracker: Tracker, holding: set[str]) -> dict[str, Device]:
    """The ledger is the walk, these devices hold resources, and what came less what went is there.
    Returns the planted ones."""
    snapshot = tracker.snapshot()
    assert_ledger_is_the_modules_walk(snapshot)
    found = rows(snapshot)
    assert {name for name, row in found.items() if row.resources} == holding
    if tracker.features["devres_log"].state == "on":
        assert all(row.resources == row.added - row.removed for row in found.values())
    return found


def test_bind_unbind_rebind_failure_and_removal(tracker: Tracker) -> None:
    module.run("devices_add")
    check(tracker, set())
    module.run("drivers_add")
    bound = check(tracker, {*GOOD})
    (DRIVER / "unbind").write_text(GOOD[1])
    check(tracker, {GOOD[0], GOOD[2]})
    (DRIVER / "bind").write_text(GOOD[1])
    again = check(tracker, {*GOOD})
    assert again[GOOD[1]].by_release == bound[GOOD[1]].by_release

    with pytest.raises(OSError, match=r"Input.output error|No such device"):
        (DRIVER.with_name("slabmon_bad") / "bind").write_text(BAD)
    failed = check(tracker, {*GOOD})
    if tracker.features["devres_log"].state == "on":
        added, removed = (
            failed[BAD].added - bound[BAD].added,
            failed[BAD].removed - bound[BAD].removed,
        )
        assert added == removed >= IN_VAIN  # the driver core has some of its own around a probe

    module.unload()  # devices, drivers and the walk go
    assert not any(row.resources for row in rows(tracker.snapshot()).values())
    module.load()
    check(tracker, set())
    assert tracker.snapshot().losses["device_ledger_disagreement"] == 0
