# SPDX-License-Identifier: Apache-2.0
"""Memory, snapshot and scrape of hosts larger than this one, as JSON: `make bench-scale`.

A benchmark, not a test. The kernel's tables are arrays of this process, filled as such a host
would fill them; the daemon's own code reads, sums and exports them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
from prometheus_client.exposition import generate_latest

from slabmon.analysis.sampling import Grouped
from slabmon.export.metrics import Daemon
from slabmon.export.prometheus import Exporter
from slabmon.kernel.bpf import maps
from slabmon.kernel.bpf.layout import ALLOC_SLOT, CACHE_RECORD, CONTROL, LANE_HEAD, SAMPLE
from slabmon.kernel.loading.loader import Programs, map_names
from slabmon.kernel.planning.plan import Plan, make_plan
from slabmon.kernel.probe.gfp import STABLE_BITS, classifier
from slabmon.kernel.settings import Settings
from slabmon.kernel.symbols.kallsyms import Location
from slabmon.kernel.tables import assemble
from slabmon.kernel.tables.caches import CacheDirectory
from slabmon.kernel.tables.lanes import Allocations, Reader, as_words
from slabmon.state.fingerprint import sources_digest
from tests.support.hosts import facts
from tests.support.snapshots import synthetic

SITES, CACHES, DEVICES, OBJECTS = 10_000, 1_000, 5_000, 1_000_000
TEXT, GFP, ROUNDS = 0xFFFFFFFF81000000, 0xCC0, 5
FULL = 0.6  # at most this part of a lane's slots: beyond it events are lost


class Host:
    """The tables of a host with this number of CPUs, and their reader."""

    def __init__(self, cpus: int, objects: int) -> None:
        samples = max(128 * 1024, 1 << (objects - 1).bit_length())
        self.plan: Plan = make_plan(facts(cpus=cpus), Settings(samples=samples))
        names = map_names(self.plan)
        self._arrays: dict[int, np.ndarray] = {}
        with mock.patch.object(maps, "map_array", self._map_array):
            self.reader = Reader(Programs({n: i for i, n in enumerate(names)}, {}, {}), self.plan)
            self._fill_tables(objects, names)
        self.directory = CacheDirectory({})
        records = np.zeros(CACHES, CACHE_RECORD)
        records["name"] = [f"cache_{i}".encode() for i in range(CACHES)]
        records["size"] = records["object_size"] = 64
        keys = np.arange(1, CACHES + 1, dtype="<u8") * 64
        self.directory.update(keys, records, self.reader.control["cache_generation"])
        self.locations = {TEXT + 16 * i: Location(f"function_{i}", 16, None) for i in range(SITES)}

    def _fill_tables(self, objects: int, names: tuple[str, ...]) -> None:
        rng = np.random.default_rng(3)
        for lanes in self.reader.alloc_lanes[:2]:
            self._fill(lanes["slots"], rng)
        for lanes in self.reader._free_lanes[:2]:
            cache = rng.integers(1, CACHES + 1, (len(lanes), min(CACHES, lanes["slots"].shape[1])))
            lanes["slots"]["cache"][:, : cache.shape[1]] = cache * 64
            lanes["slots"]["count"][:, : cache.shape[1]] = 1000
        self._track(objects, names, rng)

    def _map_array(
        self, number: int, dtype: np.dtype, count: int, writable: bool = False
    ) -> np.ndarray:
        if number not in self._arrays:
            self._arrays[number] = np.zeros(dtype.itemsize * count, np.uint8)
        return self._arrays[number].view(dtype)

    def _fill(self, slots: np.ndarray, rng: np.random.Generator) -> None:
        cpus, room = slots.shape
        kinds = int(min(SITES, room * FULL))
        for cpu in range(cpus):
            chosen = rng.choice(SITES, kinds, replace=False)
            slots["site"][cpu, :kinds] = TEXT + 16 * chosen.astype(np.uint64)
            slots["cache"][cpu, :kinds] = (chosen % CACHES + 1) * 64
        slots["gfp_size_key"][:, :kinds] = GFP << 32 | 64
        slots["count"][:, :kinds] = 1000

    def _track(self, objects: int, names: tuple[str, ...], rng: np.random.Generator) -> None:
        size = self.plan.defines["NR_POOL"]
        tags = self._map_array(names.index("tags"), np.dtype("<u8"), size)
        pool = self._map_array(names.index("pool"), SAMPLE, size)
        used = rng.choice(size, objects, replace=False)
        lanes = self.reader.alloc_lanes[0]["slots"]
        kinds = int((lanes["site"][0] != 0).sum())
        slot = rng.integers(0, len(lanes), objects) * lanes.shape[1]
        values = np.zeros(objects, SAMPLE)
        values["slot"] = slot + rng.integers(0, kinds, objects)
        values["time_ns"], values["allocated_bytes"], values["interval"] = 1, 64, 65536
        pool[used], tags[used] = values, 2

    def snapshot(self) -> None:
        """Do what Tracker.snapshot() does with the tables."""
        reader = self.reader
        with mock.patch.object(maps, "map_array", self._map_array):
            samples, frees, slots = reader.samples(), reader.frees(), reader.slots()
        used = slots["site"] != 0
        rows = assemble.slot_columns(
            Allocations.of(as_words(slots)[used].view(ALLOC_SLOT).ravel()),
            self.directory,
            lambda address, _: self.locations[address],
            classifier({}),
            STABLE_BITS,
        )
        row = (np.cumsum(used) - 1)[samples["slot"]]
        grouped = Grouped(samples["allocated_bytes"], samples["interval"], 65536)
        grouped.by(rows.cache_of[row], len(rows.caches))
        live = grouped.by(rows.location_of[row], len(rows.locations))
        assemble.cache_sums(rows, frees, self.directory, 0, {})
        assemble.site_rows(rows, dict(zip(rows.locations, live, strict=True)), 65536, {})

    def kernel_bytes(self) -> int:
        """Return the bytes of the mapped tables, without the small ones."""
        at = self.plan.defines
        alloc = LANE_HEAD.itemsize + at["NR_ALLOC_SLOTS"] * ALLOC_SLOT.itemsize
        free = LANE_HEAD.itemsize + at["NR_FREE_SLOTS"] * 64
        tracked = at["NR_POOL"] * (SAMPLE.itemsize + 8)
        shared = CONTROL.itemsize + (1 << at["NR_FILTER_BITS"])
        hooks = sum(name in self.plan.hooks for name in ("on_bulk_free", "on_rcu_free"))
        lanes = (2 + ("on_bulk_alloc" in self.plan.hooks)) * alloc + (2 + hooks) * free
        return at["NR_LANES"] * lanes + tracked + shared


def timed(function: Callable[[], Any]) -> float:
    """Return the median CPU milliseconds of a call, after a first one."""
    function()
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        function()
        times.append((time.process_time() - start) * 1e3)
    return round(median(times), 1)


def scrape(sites: int, caches: int, devices: int) -> dict[str, Any]:
    """Measure a scrape of a snapshot with these numbers of rows."""
    snapshot, exporter = synthetic(caches, sites, devices, 1000), Exporter()

    def text() -> bytes:
        return generate_latest(exporter.families(snapshot, Daemon()))

    return {
        "sites": sites,
        "caches": caches,
        "devices": devices,
        "ms": timed(text),
        "bytes": len(text()),
    }


def main() -> int:
    """Print one JSON document."""
    hosts = []
    for cpus, objects in (
        (8, 100_000),
        (64, 100_000),
        (256, 100_000),
        (8, OBJECTS),
        (256, OBJECTS),
    ):
        host = Host(cpus, objects)
        hosts.append(
            {
                "cpus": cpus,
                "objects": objects,
                "kernel_mib": round(host.kernel_bytes() / 2**20, 1),
                "slots_per_lane": host.plan.defines["NR_ALLOC_SLOTS"],
                "snapshot_ms": timed(host.snapshot),
            }
        )
    scrapes = [scrape(SITES // part, CACHES // part, DEVICES // part) for part in (10, 4, 2, 1)]
    document = {"sources": sources_digest(), "hosts": hosts, "scrapes": scrapes}
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
