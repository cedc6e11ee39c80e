# SPDX-License-Identifier: Apache-2.0
"""`slabmon check` names each thing that a kernel lacks, and why; and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable

from tests.vm.guest.bpf_objects import Footprint, assert_back_to
from tests.vm.guest.test_lifecycle import SLABMON

GAPS = {
    "5.10": {
        *("kmem_cache_free", "device_inventory", "devres_log"),
        *("bulk_alloc", "bulk_free", "rcu_free"),
        *("census_large", "census_cgroups", "census_tags", "allocinfo"),
        *("dma", "dma_pages"),
    },
    "6.1": {"census_large", "census_cgroups", "census_tags", "allocinfo", "dma", "dma_pages"},
    "6.12": {"census_large", "census_tags", "allocinfo"},
    "7.3": {"census_tags", "allocinfo"},
    "6.12-arm64": {"census_large", "census_tags", "allocinfo"},
}


def test_each_gap_is_named(record_property: Callable[[str, object], None]) -> None:
    before = Footprint.now()
    output = subprocess.check_output([SLABMON, "check", "--format", "json"])
    features = json.loads(output)["features"]
    record_property("features", json.dumps(features))
    assert_back_to(before)
    lacking = {name: f["reason"] for name, f in features.items() if f["state"] != "on"}
    assert all(lacking.values())
    asked = {name for name, reason in lacking.items() if reason != "not asked for"}
    assert asked == GAPS[os.environ["SLABMON_VM_GUEST"]]
