# SPDX-License-Identifier: Apache-2.0
"""A tracking session: from nothing attached to snapshots, and back to nothing attached."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import replace

import numpy as np

from slabmon.analysis.sampling import Grouped
from slabmon.base.escape import escape
from slabmon.base.losses import DEVICE_LEDGER_DISAGREEMENT, DEVICE_WALK_FAILED, RECURSION_PREFIX
from slabmon.kernel.bpf import syscall
from slabmon.kernel.bpf.layout import ALLOC_SLOT, CONSTANTS, DEVRES_EVENT, MODULE_EVENT
from slabmon.kernel.bpf.ringbuf import RingBuffer
from slabmon.kernel.devres.ledger import History, Ledger
from slabmon.kernel.devres.walker import Walker
from slabmon.kernel.loading.loader import Programs
from slabmon.kernel.planning.bulk_hooks import refused
from slabmon.kernel.planning.exact_filter import filtered_text
from slabmon.kernel.planning.plan import ALLOCATION_EVENTS, Plan
from slabmon.kernel.probe import slabinfo
from slabmon.kernel.probe.cgroups import Cgroups
from slabmon.kernel.probe.facts import Facts
from slabmon.kernel.probe.gfp import STABLE_BITS, classifier
from slabmon.kernel.session_state import Memory
from slabmon.kernel.symbols.kallsyms import Location, Symbols
from slabmon.kernel.tables import assemble
from slabmon.kernel.tables.caches import CacheDirectory
from slabmon.kernel.tables.lanes import Allocations, Reader, as_words
from slabmon.kernel.tables.numa import node_uses
from slabmon.kernel.tables.stack_table import StackTable
from slabmon.kernel.tables.stacks import Stacks
from slabmon.model import (
    Device,
    FeatureState,
    Host,
    ProgramCost,
    Slabinfo,
    Snapshot,
    Stacked,
    State,
    Tracked,
    Tracking,
)
from slabmon.state.continuity import Continuity

_DEVRES, _MODULE_LOAD = CONSTANTS["EVENT_DEVRES"], CONSTANTS["EVENT_MODULE_LOAD"]


class Tracker:
    """One session. Made by `open_tracker`; holds everything attached until close()."""

    def __init__(
        self,
        facts: Facts,
        plan: Plan,
        programs: Programs,
        symbols: Symbols,
        cgroups: Cgroups,
        continuity: Continuity | None = None,
    ) -> None:
        self.facts = facts
        self.plan = plan
        self.programs = programs
        self.symbols = symbols
        self._cgroups = cgroups
        self.continuity = continuity
        self.shed: frozenset[str] = frozenset()  # what is not done for now (economy.py)
        self._unsaved = True
        memory = continuity.memory if continuity else None
        self.features = dict(plan.features)
        self._bits = {**STABLE_BITS, **facts.gfp_bits}
        self._classify = classifier(facts.gfp_bits)
        self._directory = CacheDirectory(facts.slab_flags)
        self._aliases: dict[str, tuple[str, ...]] = {}
        self.reader = Reader(programs, plan)
        self._ring = RingBuffer(
            programs.maps["events"],
            plan.defines["NR_EVENT_PAGES"] * facts.page_bytes,
            start=memory.events_taken if memory else 0,
        )
        self._locations: dict[tuple[int, int], Location] = {}
        self._stack_table = StackTable(programs, plan, self.reader.without_stack)
        self._stacks = Stacks(self._stack_table.frames, self._location)
        self._events_lost = -1 if memory else 0
        if facts.kfunc_get_cache is not None and not symbols.large_entries():
            self.features["large_once"] = FeatureState(
                State.DEGRADED, "allocator symbols not found: some large kmallocs count twice"
            )
        if memory is None:
            text_range = filtered_text(plan.settings.exact, symbols)
            self.reader.prepare(symbols, text_range, random.Random())
        else:
            self.reader.control["sample_interval"] = plan.settings.sample_bytes
            self._locations.update(memory.locations)
            self._directory.recall(memory.caches, *self.reader.caches())
        # Devices first: the walk allocates, and its allocations are no business of the host's.
        missing = plan.attach.keys() - ALLOCATION_EVENTS - programs.attached_events
        failed = programs.attach(plan, missing, required=False)
        self.features.update(
            {event: FeatureState(State.OFF, reason) for event, reason in failed.items()}
        )
        self.ledger = None
        if self.features["device_inventory"].state != State.OFF:
            walker = Walker(
                programs,
                self._function_name,
                plan.defines["DEVRES_HEADER_BYTES"],
                bool(plan.defines["HAVE_DEVRES_NAMES"]),
            )
            self.ledger = Ledger(walker, self.features["devres_log"].state != State.OFF)
            if memory:
                self.ledger.recall(memory.ledger)
        self.since = memory.since if memory else time.time()
        self._started = memory.started if memory else time.monotonic()
        self.reconcile_devices()
        self.features |= refused(self.features, programs.attach_hooks(plan))
        self._bulk_unseen = any(
            self.features[n].state != State.ON for n in ("bulk_free", "rcu_free")
        )
        if memory is None:
            self.since, self._started = time.time(), time.monotonic()
            programs.attach(plan, plan.attach.keys() & ALLOCATION_EVENTS, required=True)
        if continuity is not None:
            continuity.begin(programs, self._memory())
            self.features["state"] = continuity.feature

    def _memory(self) -> Memory:
        return Memory(
            self.since,
            self._started,
            self._ring.position,
            self.symbols.history(),
            {key: place for key, place in self._locations.items() if place.module},
            tuple(self._directory.names()),
            self.ledger.history() if self.ledger else History((), 0, 0),
        )

    def _save(self) -> None:
        """What clients were told, or events that are about to be given up, is written down."""
        if self.continuity is not None and self._unsaved:
            self.continuity.save(self._memory())
            self.features["state"] = self.continuity.feature
        self._unsaved = False

    def _function_name(self, address: int) -> str:
        return self.symbols.resolve(address, int(self.reader.control["module_generation"])).symbol

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
                ranges = [
                    (int(event[b]), int(event[b]) + int(event[n]))
                    for b, n in (("base", "bytes"), ("init_base", "init_bytes"))
                ]
                self.symbols.module_loaded(escape(event["name"]), ranges, int(event["generation"]))
            else:
                self.symbols.module_freed(escape(event["name"]), int(event["generation"]))
        lost = int(self.reader.control["events_lost"])
        if lost != self._events_lost:
            self._events_lost = lost
            modules_changed = True
            if self.ledger is not None:
                self.ledger.mark_stale()
        if modules_changed:
            self.symbols.refresh(int(self.reader.control["module_generation"]))
        if count or modules_changed:
            self._unsaved = True
            self._save()
        self._ring.release()
        return count

    def reconcile_devices(self) -> None:
        """Walks all devices again and compares with the ledger."""
        self.drain()
        if self.ledger is not None:
            self.ledger.reconcile(self.drain)
            self._unsaved = True

    def _location(self, address: int, generation: int) -> Location:
        key = (address, generation)
        found = self._locations.get(key)
        if found is None:
            found = self.symbols.resolve(address, generation)
            self._locations[key] = found
            self._unsaved |= found.module is not None
        return found

    def _losses(self) -> Counter[str]:
        losses = self.reader.losses()
        for name, program in self.programs.programs.items():
            losses[RECURSION_PREFIX + name.removeprefix("on_")] = syscall.program_info(
                program
            ).recursion_misses
        if self.ledger is not None:
            losses[DEVICE_LEDGER_DISAGREEMENT] = self.ledger.disagreements
            losses[DEVICE_WALK_FAILED] = self.ledger.failed_walks
        return losses

    def _tracked(
        self, samples: np.ndarray, used: np.ndarray, rows: assemble.Rows, stacked: Stacked | None
    ) -> tuple[Tracked, list[str]]:
        """Tracked objects as columns, and the cache names their cache column indexes; the site
        column indexes rows.places. `used` tells which slots the rows are made of."""
        row = (np.cumsum(used) - 1)[samples["slot"]]
        names, name_of = assemble.distinct([cache.name for cache in rows.caches])
        stacks = np.union1d(samples["stack"], stacked.stack).tolist() if stacked else []
        cgroups = np.unique(samples["cgroup"]).tolist() if stacked else []
        tracked = Tracked(
            cache=name_of[rows.cache_of][row],
            site=rows.place_of[row],
            bytes=samples["allocated_bytes"],
            requested=samples["requested_bytes"],
            interval=samples["interval"],
            born_ns=samples["time_ns"],
            now_ns=time.clock_gettime_ns(time.CLOCK_MONOTONIC),
            gfp=rows.flags[row],
            tgid=samples["tgid"],
            cgroup=samples["cgroup"],
            comm=samples["comm"],
            stack=samples["stack"],
            stacks=self._stacks.names(stacks, int(self.reader.control["module_generation"])),
            cgroups=self._cgroups.names(cgroups),
            gfp_class={f: self._classify(f) for f in np.unique(rows.flags).tolist()},
        )
        return tracked, names

    def _rows(self, slots: Allocations) -> assemble.Rows:
        return assemble.read_rows(
            slots, self._directory, self._location, self._classify, self._bits
        )

    def snapshot(self, details: bool = False) -> Snapshot:
        """Everything known now. `details` also resolves kernel stacks and cgroup paths of the
        tracked objects."""
        self.drain()
        reader, directory = self.reader, self._directory
        seconds = time.monotonic() - self._started
        # Samples before frees before allocations: what is counted later can only be more, so a
        # live object is never without its allocation.
        samples = reader.samples()
        if details:  # by age: a recording then finds what it knows in one piece
            samples = samples[np.argsort(samples["time_ns"], kind="stable")]
        self._stacks.forget(self._stack_table.tend(samples, reader.losses()["stack_collision"]))
        stacked = self._stack_table.read() if details else None
        unobserved = reader.unobserved_frees()
        frees = reader.frees()
        large_freed = reader.large_freed_bytes()
        slots = reader.slots()
        info = self._slabinfo()
        news = directory.update(*reader.caches(), reader.control["cache_generation"])
        self._unsaved |= news
        if news or not self._aliases:
            self._aliases = dict(slabinfo.read_aliases())

        used = slots["site"] != 0
        rows = self._rows(Allocations.of(as_words(slots)[used].view(ALLOC_SLOT).ravel()))
        interval = 0 if self.plan.settings.exact else int(reader.control["sample_interval"])
        tracked, cache_names = self._tracked(samples, used, rows, stacked)
        table = assemble.cache_sums(rows, frees, directory, large_freed, unobserved)
        grouped = Grouped(tracked.bytes, tracked.interval, interval)
        live_caches = grouped.by(tracked.cache, len(cache_names))
        live_sites = grouped.by(tracked.site, len(rows.places))
        caches = assemble.cache_rows(
            table,
            dict(zip(cache_names, live_caches, strict=True)),
            info,
            self._aliases,
            slabinfo.nature,
            interval,
            self._bulk_unseen,
        )
        sites = assemble.site_rows(rows, dict(zip(rows.places, live_sites, strict=True)), interval)
        cache_row = {row.name: i for i, row in enumerate(caches)}
        site_row = {site[:3]: i for i, site in enumerate(sites)}
        tracked = replace(
            tracked,
            cache=np.array([cache_row[name] for name in cache_names], int)[tracked.cache],
            site=np.array([site_row[place] for place in rows.places], int)[tracked.site],
        )
        devices: tuple[Device, ...] = ()
        if self.ledger is not None:
            self.ledger.refresh(self.drain)
            devices = self.ledger.devices(lambda key: directory.get(key).name)
        self._save()
        settings = self.plan.settings
        return Snapshot(
            host=Host(
                self.facts.release,
                self.facts.machine,
                self.facts.cpus,
                self.facts.boot_id,
                os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            ),
            tracking=Tracking(
                self.since, seconds, "exact" if settings.exact else "sampled", interval
            ),
            caches=caches,
            sites=sites,
            devices=devices,
            gfp=assemble.gfp_rows(rows),
            sizes=assemble.size_rows(rows),
            nodes=node_uses(self.facts.nodes, reader.allocations_by_cpu, self._rows),
            pages=assemble.page_rows(reader.pages(), self._classify),
            programs=tuple(
                ProgramCost(name.removeprefix("on_"), cost.run_seconds, cost.runs)
                for name, program in self.programs.programs.items()
                for cost in [syscall.program_info(program)]
            ),
            losses=dict(self._losses()),
            features={n: FeatureState(f.state, f.reason) for n, f in self.features.items()},
            tracked=tracked,
            stacked=stacked or Stacked(),
        )

    def _slabinfo(self) -> dict[str, Slabinfo]:
        if not self.facts.slabinfo or "slabinfo" in self.shed:
            return {}
        found = slabinfo.read()
        unreadable = FeatureState(State.DEGRADED, "/proc/slabinfo could not be read just now")
        self.features["slabinfo"] = self.plan.features["slabinfo"] if found else unreadable
        return found

    def close(self) -> None:
        """Detaches everything."""
        self._ring.close()
        self.programs.close()
