# SPDX-License-Identifier: Apache-2.0
"""The device that most of the live memory of a row is for, and how that is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from slabmon.analysis.grouping import group_live
from slabmon.analysis.served import device_texts, main_devices
from slabmon.export.text import to_json
from slabmon.model import KnownBy, ServedDevice, Snapshot
from slabmon.store.codec import BadSnapshot, decode, encode
from tests.support.builders import Object, snapshot, tracked

CARD = ServedDevice(
    bus="pci", name="0000:01:00.0", driver="nvme", module="nvme", known_by=KnownBy.PROBE
)
DISK = ServedDevice(bus="block", name="vda", driver=None, module=None, known_by=KnownBy.STACK)


def host(*rows: tuple[int, int]) -> Snapshot:
    """A host with objects of these sites and devices."""
    objects = [Object(site=site, device=device) for site, device in rows]
    return snapshot(tracked=tracked(objects, devices={1: CARD, 2: DISK}))


def labels(found: Snapshot) -> list[str | None]:
    return device_texts(found, found.tracked.site, 2)


def test_a_row_has_the_device_that_most_of_its_memory_is_for() -> None:
    assert labels(host((0, 1), (0, 1), (1, 2))) == ["pci 0000:01:00.0", "block vda, likely"]
    assert labels(host((0, 2), (0, 1), (0, 2), (0, 2))) == ["block vda, likely 75%", None]


def test_memory_of_no_known_device_lowers_the_share() -> None:
    assert labels(host((0, 0), (0, 0), (0, 0), (0, 1))) == ["pci 0000:01:00.0 25%", None]
    assert labels(host((0, 0), (1, 0))) == [None, None]
    assert labels(snapshot(tracked=tracked())) == [None, None]


def test_objects_in_no_row_do_not_count() -> None:
    found = host((0, 1), (0, 2))
    [row] = main_devices(found, np.array([0, -1]), 1)
    assert row is not None
    assert (row.device, row.share) == (CARD, 1.0)


def test_sites_have_it_in_json() -> None:
    sites = json.loads(to_json(host((0, 2), (0, 0))))["sites"]
    assert sites[0]["device"] == {
        "bus": "block",
        "name": "vda",
        "driver": None,
        "module": None,
        "known_by": "stack",
        "share": 0.5,
    }
    assert sites[1]["device"] is None


def test_live_memory_can_be_grouped_by_it() -> None:
    found = {
        g.labels: g.live.objects for g in group_live(host((0, 1), (0, 0), (1, 1)), ("device",))
    }
    assert found == {("pci 0000:01:00.0",): 2, ("",): 1}


def test_a_snapshot_keeps_it() -> None:
    found = decode(encode(host((0, 1), (0, 2), (1, 0)))).tracked
    assert found.device.tolist() == [1, 2, 0]
    assert found.devices == {1: CARD, 2: DISK}


def test_an_object_of_a_missing_device_is_refused() -> None:
    found = host((0, 1))
    bad = replace(found, tracked=replace(found.tracked, devices={}))
    with pytest.raises(BadSnapshot, match="missing device"):
        decode(encode(bad))
