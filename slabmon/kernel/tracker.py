"""A tracking session: from nothing attached to snapshots, and back to nothing attached."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import numpy as np

from slabmon.analysis.sampling import Grouped
from slabmon.errors import UsageError
from slabmon.kernel import assemble, bpf, slabinfo
from slabmon.kernel.caches import CacheDirectory
from slabmon.kernel.cgroups import Cgroups
from slabmon.kernel.devices import Ledger, Walker
from slabmon.kernel.facts import Facts, probe, read_text
from slabmon.kernel.gfp import CLASSES, STABLE_BITS, classifier
from slabmon.kernel.layout import CONSTANTS, DEVRES_EVENT, MODULE_EVENT
from slabmon.kernel.loader import Compiler, Programs
from slabmon.kernel.plan import ALLOCATION_EVENTS, FIND_MEMORY, OFF, Plan, check_host, make_plan
from slabmon.kernel.reader import Reader
from slabmon.kernel.ringbuf import RingBuffer
from slabmon.kernel.settings import Filter, Settings
from slabmon.kernel.symbols import Location, Symbols
from slabmon.model import (
    Device,
    FeatureState,
    Host,
    NodeUse,
    ProgramCost,
    Snapshot,
    Tracked,
    Tracking,
)
from slabmon.names import text

T = TypeVar("T")
_DEVRES = CONSTANTS["EVENT_DEVRES"]
_MODULE_LOAD = CONSTANTS["EVENT_MODULE_LOAD"]


def resolve_filter(
    wanted: Filter | None, symbols: Symbols, cgroups: Cgroups
) -> tuple[tuple[int, int] | None, int]:
    """A filter's site or module as an address range, and its cgroup as an id."""
    if wanted is None:
        return None, 0
    site = None
    if wanted.site:
        site = symbols.range_of(wanted.site.partition("+")[0])
        if site is None:
            raise UsageError(
                f"filter: no kernel function is called {wanted.site.partition('+')[0]!r}; "
                "see /proc/kallsyms, or the sites view of a snapshot, for names"
            )
        if "+" in wanted.site:
            try:
                start = site[0] + int(wanted.site.partition("+")[2], 0)
            except ValueError:
                raise UsageError(f"filter: site {wanted.site!r} is not SYMBOL+OFFSET") from None
            site = start, start + 1
    if wanted.module:
        site = symbols.module_range(wanted.module)
        if site is None:
            raise UsageError(f"filter: no module {wanted.module!r} is loaded; see lsmod")
    cgroup = cgroups.find(wanted.cgroup) if wanted.cgroup else 0
    return site, cgroup


class Tracker:
    """One session. Made by `open_tracker`; holds everything attached until close()."""

    def __init__(self, facts: Facts, plan: Plan, programs: Programs, symbols: Symbols,
                 cgroups: Cgroups) -> None:  # fmt: skip
        self.facts = facts
        self.plan = plan
        self._programs = programs
        self._symbols = symbols
        self._cgroups = cgroups
        self._features = dict(plan.features)
        self._bits = {**STABLE_BITS, **facts.gfp_bits}
        self._classify = classifier(facts.gfp_bits)
        self._directory = CacheDirectory(facts.slab_flags)
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._reader = Reader(programs, plan)
        self._ring = RingBuffer(
            programs.maps["events"], plan.defines["EVENT_PAGES"] * facts.page_bytes
        )
        self._locations: dict[tuple[int, int], Location] = {}
        self._events_lost = 0
        if FIND_MEMORY in plan.run:
            bpf.run(programs.programs[FIND_MEMORY])
        self._reader.prepare(plan.settings.sample_bytes, np.random.default_rng())
        # Devices first: the walk allocates, and its allocations are no business of the host's.
        self._features.update(programs.attach(plan, plan.attach.keys() - ALLOCATION_EVENTS))
        self.ledger = None
        if self._features["device_inventory"].state != OFF:
            walker = Walker(programs, self._function_name, plan.defines["DEVRES_HEADER"],
                            bool(plan.defines["DEVRES_NAMED"]))  # fmt: skip
            self.ledger = Ledger(walker, self._features["devres_log"].state != OFF)
            self.ledger.reconcile(self.drain)
        self.since = time.time()
        self._started = time.monotonic()
        programs.attach(plan, plan.attach.keys() & ALLOCATION_EVENTS)

    def _function_name(self, address: int) -> str:
        return self._symbols.resolve(address, int(self._reader.control["module_generation"])).symbol

    def drain(self) -> int:
        """Takes pending kernel events in; returns how many devres events there were."""
        count = 0
        modules_changed = False
        for record in self._ring:
            kind = int.from_bytes(record[:4], "little")
            if kind == _DEVRES:
                count += 1
                if self.ledger is not None:
                    self.ledger.apply(np.frombuffer(record, DEVRES_EVENT, 1)[0])
                continue
            event = np.frombuffer(record, MODULE_EVENT, 1)[0]
            modules_changed = True
            if kind == _MODULE_LOAD:
                ranges = [(int(event[b]), int(event[b]) + int(event[n]))
                          for b, n in (("base", "bytes"), ("init_base", "init_bytes"))]  # fmt: skip
                self._symbols.module_loaded(text(event["name"]), ranges, int(event["generation"]))
            else:
                self._symbols.module_freed(text(event["name"]), int(event["generation"]))
        lost = int(self._reader.control["events_lost"])
        if lost != self._events_lost:
            self._events_lost = lost
            modules_changed = True
            if self.ledger is not None:
                self.ledger.mark_stale()
        if modules_changed:
            self._symbols.refresh(int(self._reader.control["module_generation"]))
        return count

    def reconcile_devices(self) -> None:
        """Walks all devices again and compares with the ledger."""
        if self.ledger is not None:
            self.ledger.reconcile(self.drain)

    def _location(self, address: int, generation: int) -> Location:
        key = (address, generation)
        found = self._locations.get(key)
        if found is None:
            found = self._symbols.resolve(address, generation)
            self._locations[key] = found
        return found

    def _losses(self) -> Counter[str]:
        losses = self._reader.losses()
        for name, program in self._programs.programs.items():
            losses[f"recursion_{name.removeprefix('on_')}"] = bpf.program_info(
                program
            ).recursion_misses
        if self.ledger is not None:
            losses["device_ledger_disagreement"] = self.ledger.disagreements
            losses["device_walk_failed"] = self.ledger.failed_walks
        return losses

    def _tracked(
        self, samples: np.ndarray, stacks: bool
    ) -> tuple[Tracked, list[str], list[Location]]:
        """Tracked objects as columns, with the names their cache and site columns index."""
        keys, key_index = np.unique(samples["cache"], return_inverse=True)
        caches, cache_of = _distinct([self._directory.get(key).name for key in keys.tolist()])
        # Kernel text addresses differ in their low bits only: the high ones hold the generation.
        pairs = samples["site"] ^ samples["module_generation"].astype("<u8") << np.uint64(52)
        _, first, pair_index = np.unique(pairs, return_index=True, return_inverse=True)
        sites, site_of = _distinct(
            [self._location(int(row["site"]), int(row["module_generation"]))
             for row in samples[first]]
        )  # fmt: skip
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        used = np.unique(samples["stack"]).tolist() if stacks else []
        flags = np.unique(samples["gfp"]).tolist()
        tracked = Tracked(
            cache=cache_of[key_index], site=site_of[pair_index], bytes=samples["allocated_bytes"],
            requested=samples["requested_bytes"], interval=samples["interval"],
            age=np.maximum(0, now - samples["time_ns"].astype(np.int64)) / 1e9,
            gfp=samples["gfp"], tgid=samples["tgid"], cgroup=samples["cgroup"],
            comm=samples["comm"], stack=samples["stack"],
            stacks={i: self._stack(i) for i in used if i >= 0},
            cgroups=self._cgroups.names(np.unique(samples["cgroup"]).tolist()),
            gfp_classes={value: self._classify(value) for value in flags},
        )  # fmt: skip
        return tracked, caches, sites

    def _stack(self, stack_id: int) -> tuple[str, ...]:
        """Function names of a stack, innermost first, from the allocator on."""
        generation = int(self._reader.control["module_generation"])
        frames = [self._location(f - 1, generation) for f in self._reader.stack(stack_id)]
        for depth, frame in enumerate(frames[:4]):
            if frame.symbol.startswith("bpf_trace_run"):  # ours end here
                frames = frames[depth + 1 :]
                break
        return tuple(f"{f.symbol} [{f.module}]" if f.module else f.symbol for f in frames)

    def snapshot(self, stacks: bool = False) -> Snapshot:
        """Everything known now. `stacks` also resolves the tracked objects' kernel stacks."""
        self.drain()
        reader, directory = self._reader, self._directory
        seconds = time.monotonic() - self._started
        # Samples before frees before allocations: what is counted later can only be more, so a
        # live object is never without its allocation.
        samples = reader.samples()
        samples = samples[samples["flags"] & CONSTANTS["SLOT_MATCH"] != 0]
        unobserved = reader.unobserved_frees()
        frees = reader.frees()
        large_freed = reader.large_freed_bytes()
        rows = reader.allocations()
        info = slabinfo.read() if self.facts.slabinfo else {}
        if (
            directory.update(*reader.caches(), reader.control["cache_generation"])
            or not self._aliases
        ):
            self._aliases = dict(slabinfo.read_aliases())

        identities = assemble.object_caches(rows, directory, self._bits)
        sizes = assemble.row_bytes(rows, identities)
        table = assemble.cache_sums(
            rows, identities, sizes, frees, directory, large_freed, unobserved,
            np.unique(samples["cache"]).tolist(),
        )  # fmt: skip
        tracked, cache_names, places = self._tracked(samples, stacks)
        grouped = Grouped(tracked.bytes, tracked.interval)
        live_caches = grouped.by(tracked.cache, len(cache_names))
        live_sites = grouped.by(tracked.site, len(places))
        locations = [
            self._location(site, extra >> 32)
            for site, extra in zip(rows.site.tolist(), rows.extra.tolist(), strict=True)
        ]
        caches = assemble.cache_rows(
            table, dict(zip(cache_names, live_caches, strict=True)), info, self._aliases,
            slabinfo.is_reclaimable,
        )  # fmt: skip
        sites = assemble.site_rows(
            locations, rows, sizes, dict(zip(places, live_sites, strict=True))
        )
        cache_row = {row.name: i for i, row in enumerate(caches)}
        site_row = {Location(s.symbol, s.offset, s.module): i for i, s in enumerate(sites)}
        tracked = replace(
            tracked,
            cache=np.array([cache_row[name] for name in cache_names], int)[tracked.cache],
            site=np.array([site_row[place] for place in places], int)[tracked.site],
        )
        devices: tuple[Device, ...] = ()
        if self.ledger is not None:
            self.ledger.refresh(self.drain)
            devices = self.ledger.devices(lambda key: directory.get(key).name)
        settings = self.plan.settings
        return Snapshot(
            host=Host(self.facts.release, self.facts.machine, self.facts.cpus, self.facts.boot_id),
            tracking=Tracking(self.since, seconds, "exact" if settings.exact else "sampled",
                              0 if settings.exact else settings.sample_bytes),
            caches=caches,
            sites=sites,
            devices=devices,
            gfp=assemble.gfp_rows(rows, sizes, self._classify, CLASSES),
            sizes=assemble.size_rows(rows, identities),
            nodes=self._nodes(),
            pages=assemble.page_rows(reader.pages(), self._classify),
            programs=tuple(
                ProgramCost(name.removeprefix("on_"), cost.run_seconds, cost.runs)
                for name, program in self._programs.programs.items()
                for cost in [bpf.program_info(program)]
            ),
            losses=dict(self._losses()),
            features={n: FeatureState(f.state, f.reason) for n, f in self._features.items()},
            tracked=tracked,
        )  # fmt: skip

    def _nodes(self) -> tuple[NodeUse, ...]:
        if self.facts.nodes < 2:
            return ()
        own: dict[int, int] = {}
        for node in range(self.facts.nodes):
            cpus = read_text(f"/sys/devices/system/node/node{node}/cpulist") or ""
            for part in filter(None, cpus.split(",")):
                first, _, last = part.partition("-")
                own |= dict.fromkeys(range(int(first), int(last or first) + 1), node)
        per_cpu = []
        for cpu, rows in enumerate(self._reader.allocations_by_cpu()):
            identities = assemble.object_caches(rows, self._directory, self._bits)
            per_cpu.append((own.get(cpu, 0), rows, assemble.row_bytes(rows, identities)))
        return assemble.node_rows(per_cpu)

    def close(self) -> None:
        """Detaches everything."""
        self._ring.close()
        self._programs.close()


def _distinct(labels: list[T]) -> tuple[list[T], np.ndarray]:
    """The different labels, and for each label the position of its equal among them."""
    position = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return list(position), np.array([position[label] for label in labels], int)


@contextmanager
def open_tracker(settings: Settings) -> Iterator[Tracker]:
    """Compiles, loads and attaches; on leaving, nothing of it remains."""
    with Compiler() as compiler:
        symbols = Symbols()
        facts = probe(symbols)
        check_host(facts)
        cgroups = Cgroups()
        site, cgroup = resolve_filter(settings.exact, symbols, cgroups)
        plan = make_plan(facts, settings, site, cgroup)
        programs = compiler.build(plan)
    with programs:
        tracker = Tracker(facts, plan, programs, symbols, cgroups)
        try:
            yield tracker
        finally:
            tracker.close()
