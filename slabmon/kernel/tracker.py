# SPDX-License-Identifier: Apache-2.0
"""A tracking session: attach the programs, take snapshots, shed load, detach."""

from __future__ import annotations

import math
import os
import random
import time
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, replace

import numpy as np

from slabmon.analysis.contexts import with_inferred
from slabmon.analysis.sampling import Grouped
from slabmon.base.activity import Activity, Stage
from slabmon.base.arrays import I32, Bool, Records, distinct
from slabmon.base.clock import suspended
from slabmon.base.errors import SlabmonError, UsageError
from slabmon.base.escape import escape
from slabmon.base.fields import Host
from slabmon.base.losses import DEVICE_LEDGER_DISAGREEMENT, DEVICE_WALK_FAILED, RECURSION_PREFIX
from slabmon.kernel.bpf import syscall
from slabmon.kernel.bpf.layout import ALLOC_SLOT, CONSTANTS, DEVRES_EVENT, MODULE_EVENT, SAMPLE
from slabmon.kernel.bpf.ringbuf import RingBuffer
from slabmon.kernel.census.freed import find_freed
from slabmon.kernel.devres.ledger import Ledger, LedgerState
from slabmon.kernel.devres.walker import DeviceIdentity, Walker
from slabmon.kernel.exact_target import (
    EVERYTHING,
    ModuleNotLoadedError,
    Target,
    Text,
    check_module,
    filtered_text,
)
from slabmon.kernel.loading.loader import STACK_COPY_RING, Programs
from slabmon.kernel.memory.reading import MemoryReader, stack_bytes
from slabmon.kernel.planning.bulk_hooks import refused
from slabmon.kernel.planning.driver_probes import probes_refused
from slabmon.kernel.planning.plan import Plan
from slabmon.kernel.probe import slabinfo
from slabmon.kernel.probe.cgroups import Cgroups
from slabmon.kernel.probe.components import Components
from slabmon.kernel.probe.container_names import ContainerNames
from slabmon.kernel.probe.facts import HIDDEN_SYMBOLS, Facts, node_of_cpu
from slabmon.kernel.probe.gfp import STABLE_BITS, classifier, modifier_masks, modifiers_of
from slabmon.kernel.probe.processes import MAX_PROCESSES, Processes
from slabmon.kernel.probe.slabinfo import SlabDirectory
from slabmon.kernel.programs import (
    ALLOCATION_EVENTS,
    BY_NAME,
    PAGE_EVENTS,
    Direction,
    attachments,
)
from slabmon.kernel.served.containers import Containers
from slabmon.kernel.served.devices import served_devices
from slabmon.kernel.served.dma import DmaTable
from slabmon.kernel.served.probes import ProbeTable
from slabmon.kernel.served.stack_devices import StackDevices
from slabmon.kernel.session_state import Checkpoint, Pauses, SessionState
from slabmon.kernel.settings import When
from slabmon.kernel.symbols.kallsyms import UNKNOWN, Location, Symbols
from slabmon.kernel.tables import assemble
from slabmon.kernel.tables.assemble import Function, SlotColumns
from slabmon.kernel.tables.caches import CacheDirectory
from slabmon.kernel.tables.lanes import Allocations, Frees, Reader, as_words
from slabmon.kernel.tables.paths import INTERVAL_SHARE, PathTable, write_chances
from slabmon.kernel.tables.stack_table import StackTable
from slabmon.kernel.tables.stacks import StackNames
from slabmon.model import (
    CONTEXTS,
    Cache,
    Context,
    Device,
    FeatureState,
    Mode,
    NodeUse,
    ProgramCost,
    Site,
    Slabinfo,
    Snapshot,
    Stacked,
    State,
    Tracked,
    Tracking,
)

# Between walks over all devices at the latest: no event reports that one is renamed or bound to
# another driver. The daemon walks more often, outside of snapshots.
DEVICE_WALK_SECONDS = 900.0
JUDGE_SECONDS = 10.0  # between walks that only decide which devices stacks lead to
_DEVRES, _MODULE_LOAD = CONSTANTS["EVENT_DEVRES"], CONSTANTS["EVENT_MODULE_LOAD"]
_COUNTERS = attachments(Direction.ALLOC) | attachments(Direction.FREE)
_SHED = FeatureState(State.DEGRADED, "not done for now: slabmon exceeded its budget of CPU time")
# sample_interval is a u32 whose product with 2^31 has to fit 64 bits (bpf/sampling.h).
_LONGEST_INTERVAL = 1 << 30


@dataclass(frozen=True, kw_only=True)
class _Tables:
    """The kernel's tables as one snapshot read them, in this order.

    Samples are read before frees and frees before allocations. What is read later can only be
    more, so every live object has its allocation.
    """

    seconds: float  # since tracking began
    samples: Records  # (tracked objects,) of SAMPLE
    probed: dict[int, DeviceIdentity]  # by number of the driver's probe
    stacked: Stacked | None  # None without details
    unobserved: dict[int, int]  # frees, by cache key
    frees: Frees
    large_freed: int  # bytes
    slots: Records  # (slots of all lanes,) of ALLOC_SLOT
    slabinfo: dict[str, Slabinfo]


class Tracker:
    """One session, made by open_tracker(). It keeps everything attached until close().

    Tracker.start() begins to count; Tracker.resume() continues the counters of an earlier
    process. `since` is the Unix time tracking began. sleep() detaches what counts allocation
    events, and wake() attaches it again; unless they are always counted, a new session is asleep.
    """

    def __init__(
        self,
        facts: Facts,
        plan: Plan,
        programs: Programs,
        symbols: Symbols,
        cgroups: Cgroups,
        *,
        checkpoint: Checkpoint | None = None,
        events_taken: int = 0,
    ) -> None:
        """Connect the parts of a session. Nothing is attached yet."""
        self.facts = facts
        self.plan = plan
        self.programs = programs
        self.symbols = symbols
        self.checkpoint = checkpoint
        self.features = dict(plan.features)
        self.shed: frozenset[str] = frozenset()  # collectors that shed_load() switched off
        self.reader = Reader(programs, plan)
        self.ledger: Ledger | None = None
        self.since, self._started = time.time(), time.monotonic()
        self._suspended_before = suspended()
        self._cgroups = cgroups
        self._container_names = ContainerNames()
        self._processes = Processes()
        self._gfp_bits = {**STABLE_BITS, **facts.gfp_bits}
        self._classify = classifier(facts.gfp_bits)
        self._modifiers = modifier_masks(facts.gfp_bits)
        self._directory = CacheDirectory(facts.slab_flags)
        self._slab_directory = SlabDirectory()
        self.memory = MemoryReader(stack_bytes("OFF_TASK_STACK_AREA" in facts.offsets))
        self._locations: dict[tuple[int, int], Location] = {}
        self._functions: dict[Location, Function] = {}
        self._components = Components.of_host()
        self._stack_table = StackTable(programs, plan, self.reader.clear_stacks)
        self._stack_names = StackNames(self._stack_table.frames, symbols.resolve)
        self._stack_devices = StackDevices(self._modules_on)
        self._stack_copies = (
            RingBuffer(
                programs.maps[STACK_COPY_RING],
                plan.defines["NR_STACK_COPY_PAGES"] * facts.page_bytes,
            )
            if plan.defines["HAVE_STACK_COPIES"]
            else None
        )
        self._judged = -math.inf  # CLOCK_MONOTONIC of the last walk that stacks were judged by
        self._probes = ProbeTable(programs, plan, self.reader.control)
        self._dma = DmaTable(programs, plan)
        self._paths = PathTable(
            programs, plan, self.reader.control, self._location, self._functions
        )
        # Whether page events are counted while tracking is awake, and always then.
        self._pages_always = plan.settings.pages or plan.settings.when == When.ALWAYS
        self._pages_watched = self._pages_always or programs.attached_events >= PAGE_EVENTS
        self._ring = RingBuffer(
            programs.maps["events"],
            plan.defines["NR_EVENT_PAGES"] * facts.page_bytes,
            start=events_taken,
        )
        self._walked = -math.inf  # CLOCK_MONOTONIC of the last walk over the devices
        self._events_lost = 0
        self._unsaved = True
        self._bulk_unseen = True
        self.pauses = Pauses()
        self.stage = Stage.EXACT if plan.settings.exact else Stage.SAMPLED
        self._sample_bytes = plan.settings.sample_bytes
        if facts.kfunc_get_cache is not None and not symbols.large_entries():
            self.features["large_once"] = FeatureState(
                State.DEGRADED,
                "allocator symbols not found: some large kmallocs count twice"
                + ("" if facts.kallsyms else f" ({HIDDEN_SYMBOLS})"),
            )

    @classmethod
    def start(
        cls,
        facts: Facts,
        plan: Plan,
        programs: Programs,
        symbols: Symbols,
        cgroups: Cgroups,
        *,
        checkpoint: Checkpoint | None = None,
        target: Target = EVERYTHING,
    ) -> Tracker:
        """Return a new session that counts from now. `programs` are loaded, not attached, `target`
        is what the filter of the settings selects."""
        tracker = cls(facts, plan, programs, symbols, cgroups, checkpoint=checkpoint)
        tracker.reader.prepare(symbols, random.Random(), tracker._first_text(), target.caches)
        tracker.set_sample_interval(plan.settings.sample_bytes)
        # Allocations last: those of the walk over all devices are slabmon's own.
        tracker._attach_observers(saved=None)
        exact = plan.settings.exact
        if exact is not None and exact.process_tree is not None:
            tracker.reader.mark_process(exact.process_tree)
        tracker.since, tracker._started = time.time(), time.monotonic()
        if plan.settings.when == When.ALWAYS:
            tracker._attach_counters()
        else:
            tracker.pauses = Pauses(began=tracker._started)
        tracker._begin_checkpoint()
        return tracker

    @classmethod
    def resume(
        cls,
        facts: Facts,
        plan: Plan,
        programs: Programs,
        symbols: Symbols,
        cgroups: Cgroups,
        *,
        checkpoint: Checkpoint | None,
        saved: SessionState,
    ) -> Tracker:
        """Return the session of an earlier process, whose programs kept counting meanwhile.

        `symbols` are made of saved.modules. Optional programs that are not attached are attached.
        """
        tracker = cls(
            facts,
            plan,
            programs,
            symbols,
            cgroups,
            checkpoint=checkpoint,
            events_taken=saved.events_taken,
        )
        tracker.since, tracker._started = saved.since, saved.started
        if saved.suspended_before is not None:
            tracker._suspended_before = saved.suspended_before
        tracker.set_sample_interval(plan.settings.sample_bytes)
        tracker._locations.update(saved.locations)
        tracker._functions.update(
            (location, tracker._function(*key, location))
            for key, location in saved.locations.items()
        )
        tracker._directory.restore(saved.caches, *tracker.reader.caches())
        tracker._events_lost = -1  # unknown: module symbols are read again
        tracker._stack_table.copy_again()
        tracker._attach_observers(saved=saved.ledger)
        tracker.pauses = saved.pauses
        if tracker.awake:
            tracker._attach_counters()
        else:  # the earlier process may have been killed while it woke
            programs.detach(_COUNTERS)
        tracker._begin_checkpoint()
        return tracker

    def _attach_observers(self, *, saved: LedgerState | None) -> None:
        """Attach all but what counts allocation events, and walk the devices once."""
        plan, programs = self.plan, self.programs
        missing = plan.attach.keys() - _COUNTERS - programs.attached_events
        self._attach_optional(missing)
        if self.features["device_inventory"].state != State.OFF:
            walker = Walker(
                programs,
                self._function_name,
                plan.defines["DEVRES_HEADER_BYTES"],
                bool(plan.defines["HAVE_DEVRES_NAMES"]),
            )
            self.ledger = Ledger(walker, self.features["devres_log"].state != State.OFF)
            if saved is not None:
                self.ledger.restore(saved)
        self.reconcile_devices()

    def _attach_counters(self) -> None:
        """Attach what counts allocation events and is not attached."""
        plan, programs = self.plan, self.programs
        failed = programs.attach_hooks(plan)
        self.features |= refused(self.features, failed) | probes_refused(failed)
        self._bulk_unseen = any(
            self.features[name].state != State.ON for name in ("bulk_free", "rcu_free")
        )
        missing = plan.attach.keys() - programs.attached_events
        if self._pages_watched and "pages" not in self.shed:
            self._attach_pages()
        programs.attach(plan, missing & ALLOCATION_EVENTS, required=True)

    def _attach_pages(self) -> None:
        """Attach to the events of pages that are not attached. Earlier pages are not tracked any
        more: their frees were missed."""
        missing = (self.plan.attach.keys() & PAGE_EVENTS) - self.programs.attached_events
        if missing:
            self.programs.detach(PAGE_EVENTS)
            self._paths.forget_pages()
            self.reader.control["split_orders"] = 0  # its bits cost time in each free
            self.features["pages"] = FeatureState(State.ON)
            self._attach_optional(self.plan.attach.keys() & PAGE_EVENTS)

    def watch_pages(self, watched: bool) -> None:
        """Count page events too until tracking sleeps, or stop that unless settings ask for it. It
        has no effect while tracking is asleep, or if the plan does not have them."""
        self._pages_watched = watched or self._pages_always
        if self._pages_watched and self.awake and "pages" not in self.shed:
            self._attach_pages()
        elif not self._pages_watched:
            self.programs.detach(PAGE_EVENTS)
            self.features["pages"] = self.plan.features["pages"]
        self._follow_attachments()

    def _attach_optional(self, events: Set[str]) -> None:
        """Attach to these events of the plan. Features whose events the kernel refuses are off."""
        failed = self.programs.attach(self.plan, events, required=False)
        for event, reason in failed.items():
            feature = BY_NAME[self.plan.attach[event]].feature
            self.features[feature] = FeatureState(State.OFF, reason)

    @property
    def awake(self) -> bool:
        """Whether allocation events are counted."""
        return self.pauses.began is None

    def sleep(self) -> None:
        """Detach what counts allocation events. Counters stand still until wake()."""
        if not self.awake:
            return
        self._pause()  # a process that adopts the session ends what a kill interrupts
        # Frees last: an object whose free is missed and that is allocated again looks like one of
        # a cache whose frees cannot be seen.
        for direction in (Direction.ALLOC, Direction.FREE):
            self.programs.detach(attachments(direction))
            self._follow_attachments()
        self._pages_watched = self._pages_always
        self.features["pages"] = self.plan.features["pages"]
        self._pause()

    def _pause(self) -> None:
        self.pauses = replace(self.pauses, began=time.monotonic())
        self._unsaved = True
        self._save()

    def wake(self, reason: str) -> None:
        """Count allocation events again. Objects allocated before are not tracked any more: their
        frees were missed. Raises UnsupportedHost if the kernel refuses."""
        if self.pauses.began is None:
            return
        self.reader.forget_tracked()
        net = self._net()
        try:
            self._attach_counters()
        except SlabmonError:
            self.programs.detach(_COUNTERS)  # what was attached before the refusal
            raise
        self.pauses = Pauses(
            seconds=self.pauses.seconds + time.monotonic() - self.pauses.began,
            wakes=self.pauses.wakes + 1,
            reason=reason,
            net=net,
        )
        self._follow_attachments()
        self._unsaved = True
        self._save()

    def _net(self) -> dict[str, int]:
        """Return allocations minus frees counted so far, by cache."""
        self._update_caches()
        slots = self.reader.slots()
        rows = self._columns(Allocations.of(slots[slots["site"] != 0]))
        sums = assemble.cache_sums(rows, self.reader.frees(), self._directory, 0, {})
        return {name: entry.allocs - entry.frees for name, (_, entry) in sums.items()}

    def _follow_attachments(self) -> None:
        if self.checkpoint is not None:
            self.checkpoint.update(self.programs)

    def _begin_checkpoint(self) -> None:
        if self.checkpoint is not None:
            self.checkpoint.begin(self.programs, self._state())
            self.features["state"] = self.checkpoint.feature

    def _state(self) -> SessionState:
        return SessionState(
            since=self.since,
            started=self._started,
            suspended_before=self._suspended_before,
            pauses=self.pauses,
            events_taken=self._ring.position,
            modules=self.symbols.history(),
            locations={
                key: location for key, location in self._locations.items() if location.module
            },
            caches=tuple(self._directory.names()),
            ledger=self.ledger.state() if self.ledger else LedgerState((), 0, 0),
        )

    def _save(self) -> None:
        """Store the state before clients see what follows from it, or its events are released."""
        if self.checkpoint is not None and self._unsaved:
            self.checkpoint.save(self._state())
            self.features["state"] = self.checkpoint.feature
        self._unsaved = False

    def set_sample_interval(self, sample_bytes: int) -> None:
        """Set the mean number of allocated bytes between samples.

        Each record keeps the interval it was taken with, so estimates stay unbiased.
        """
        self._sample_bytes = min(sample_bytes, _LONGEST_INTERVAL)
        light = self.stage == Stage.LIGHT
        self.reader.control["sample_interval"] = _LONGEST_INTERVAL if light else self._sample_bytes
        write_chances(self.reader.control, self.facts.page_bytes, self._page_interval)

    @property
    def _page_interval(self) -> int:
        """The mean number of bytes between samples of pages; 0: all are tracked."""
        return 0 if self.plan.settings.exact else self._sample_bytes * INTERVAL_SHARE

    def set_stage(self, stage: Stage) -> None:
        """Track objects as closely as a stage says: light takes a sample every GiB."""
        self.stage = stage
        self.set_sample_interval(self._sample_bytes)

    def shed_load(self, collectors: Set[str]) -> None:
        """Disable exactly these collectors, of "pages" and "slabinfo", and enable the others.

        Page counters do not advance while "pages" is disabled.
        """
        changed, self.shed = self.shed ^ frozenset(collectors), frozenset(collectors)
        for name in changed:
            planned = self.plan.features[name]
            shed = name in collectors and planned.state == State.ON
            self.features[name] = _SHED if shed else planned
        if "pages" in changed and self._pages_watched and self.awake:
            if "pages" in collectors:
                self.programs.detach(PAGE_EVENTS)
            else:
                self._attach_pages()
            self._follow_attachments()

    @property
    def _module_generation(self) -> int:
        return int(self.reader.control["module_generation"])

    def _function_name(self, address: int) -> str:
        return self.symbols.resolve(address, self._module_generation).symbol

    def drain(self) -> int:
        """Apply pending kernel events. Return the number of devres events among them."""
        count = 0
        modules_changed = False
        for record in self._ring:
            kind = int.from_bytes(record[:4], "little")
            if kind == _DEVRES:
                count += 1
                if self.ledger is not None:
                    self.ledger.apply(np.frombuffer(record, DEVRES_EVENT, 1)[0])
                continue
            modules_changed = True
            self._apply_module_event(kind, np.frombuffer(record, MODULE_EVENT, 1)[0])
        lost = int(self.reader.control["events_lost"])
        if lost != self._events_lost:
            self._events_lost = lost
            modules_changed = True
            if self.ledger is not None:
                self.ledger.mark_stale()
        if modules_changed:
            self._refresh_symbols()
            self._follow_filter()
        if count or modules_changed:
            self._unsaved = True
            self._save()
        self._ring.release()
        return count

    def _refresh_symbols(self) -> None:
        """Read module symbols again, unless the kernel hides them by now."""
        self.symbols.refresh(self._module_generation)
        self.features["symbols"] = self.plan.features["symbols"]
        if self.symbols.hidden and self.symbols.readable:
            self.features["symbols"] = FeatureState(
                State.DEGRADED,
                f"functions of modules loaded since have no names: {HIDDEN_SYMBOLS}",
            )

    def _first_text(self) -> Text:
        """Return the text of the filter when tracking begins: a module may be loaded later."""
        exact = self.plan.settings.exact
        try:
            return filtered_text(exact, self.symbols)
        except ModuleNotLoadedError as error:
            assert exact is not None
            check_module(str(exact.module), self.symbols)
            self.features["exact_filter"] = FeatureState(State.DEGRADED, str(error))
            return ()

    def _follow_filter(self) -> None:
        """Point the filter of exact mode at its module or function, which may be reloaded."""
        exact = self.plan.settings.exact
        if exact is None or not (exact.module or exact.site):
            return
        try:
            self.reader.select_text(filtered_text(exact, self.symbols))
            self.features["exact_filter"] = self.plan.features["exact_filter"]
        except UsageError as error:
            self.reader.select_text(())
            self.features["exact_filter"] = FeatureState(State.DEGRADED, str(error))

    def _check_cgroup(self) -> None:
        """Report that the cgroup of the filter is another one than when tracking began."""
        exact = self.plan.settings.exact
        if exact is None or not exact.cgroup:
            return
        try:
            changed = self._cgroups.find(exact.cgroup) != self.plan.defines["EXACT_CGROUP"]
            reason = f"filter: cgroup {exact.cgroup!r} was made again; restart to follow it"
        except UsageError as error:
            changed, reason = True, str(error)
        if changed:
            self.features["exact_filter"] = FeatureState(State.DEGRADED, reason)

    def _follow_modules(self) -> None:
        """Read module symbols again after a change, on kernels that do not report changes."""
        if self.plan.defines["HAVE_MODULES"] or not (self.facts.modules and self.facts.kallsyms):
            return
        if self.symbols.modules_changed():
            self._refresh_symbols()
            self._follow_filter()
            self._stack_names.clear()
            self._paths.clear()
            self._locations = {
                key: location
                for key, location in self._locations.items()
                if location.symbol != UNKNOWN
            }

    def _apply_module_event(self, kind: int, event: np.void) -> None:
        name, generation = escape(event["name"]), int(event["generation"])
        if kind == _MODULE_LOAD:
            ranges = [
                (int(event[base]), int(event[base]) + int(event[length]))
                for base, length in (("base", "bytes"), ("init_base", "init_bytes"))
            ]
            self.symbols.module_loaded(name, ranges, generation)
        else:
            self.symbols.module_freed(name, generation)

    def reconcile_devices(self) -> None:
        """Walk all devices again and compare with the ledger. Judge stacks by what they lead to."""
        self.drain()
        self._take_stack_copies()
        if self.ledger is not None:
            before = self.ledger.placed()
            self.ledger.reconcile(self.drain)
            self._follow_walks(self.ledger.problem)
            self._unsaved = True
            placed = self.ledger.placed()
            if placed is not before:
                containers = Containers(placed, self.facts.sizes, self.facts.offsets)
                self._stack_table.copy_again(self._stack_devices.walked(containers))
        self._walked = time.monotonic()

    def _follow_walks(self, problem: str) -> None:
        """Say why devices could not be walked, until they can."""
        feature = self.plan.features["device_inventory"]
        if problem:
            feature = FeatureState(State.DEGRADED, f"devices could not be walked: {problem}")
        self.features["device_inventory"] = feature

    def _take_stack_copies(self) -> None:
        """Look at the stacks that were copied until now."""
        if self._stack_copies is not None:
            self._stack_devices.add(self._stack_copies)
            self._stack_copies.release()

    def _follow_stacks(self) -> None:
        """Learn of the devices that stacks lead to: at once, and again from time to time."""
        self._take_stack_copies()
        if self._stack_devices.undecided and time.monotonic() - self._judged > JUDGE_SECONDS:
            self.reconcile_devices()
            self._judged = time.monotonic()

    def _modules_on(self, stack: int) -> set[str]:
        """Return the modules of the functions on a stack."""
        return self._stack_names.modules(stack, self._module_generation)

    def _location(self, address: int, generation: int) -> Location:
        key = (address, generation)
        location = self._locations.get(key)
        if location is None:
            location = self.symbols.resolve(address, generation)
            self._locations[key] = location
            self._functions[location] = self._function(address, generation, location)
            self._unsaved |= location.module is not None
        return location

    def _function(self, address: int, generation: int, location: Location) -> Function:
        component = None if location.module else self._components.of(location.symbol)
        return Function(self.symbols.size(address, generation), component)

    def snapshot(self, details: bool = False) -> Snapshot:
        """Return everything known now.

        With `details`, kernel stacks and cgroup paths of the tracked objects are resolved too.
        """
        self.drain()
        self._follow_modules()
        self._check_cgroup()
        tables = self._read(details)
        self._follow_stacks()
        self._update_caches()
        used = tables.slots["site"] != 0
        slots = as_words(tables.slots)[used].view(ALLOC_SLOT).ravel()
        rows = self._columns(Allocations.of(slots))
        settings = self.plan.settings
        interval = 0 if settings.exact else int(self.reader.control["sample_interval"])
        tracked, caches, sites = self._rows(tables, rows, used, interval)
        devices = self._devices()
        self._save()
        return Snapshot(
            host=self._host(),
            tracking=Tracking(
                since=self.since,
                seconds=tables.seconds,
                mode=Mode.EXACT if settings.exact else Mode.SAMPLED,
                sample_bytes=interval,
                suspended=max(0.0, suspended() - self._suspended_before),
                activity=self._activity(),
                asleep=self._asleep(tables.seconds),
                wakes=self.pauses.wakes,
                reason=self.pauses.reason,
                stage=self.stage,
            ),
            caches=caches,
            sites=sites,
            devices=devices,
            gfp=assemble.gfp_rows(rows),
            sizes=assemble.size_rows(rows),
            nodes=self._nodes(),
            pages=assemble.page_rows(self.reader.pages(), self._classify),
            page_sites=self._paths.rows(
                self._page_interval,
                settings.exact,
                pages=self.programs.attached_events >= PAGE_EVENTS,
            ),
            programs=self._costs(),
            losses=dict(self._losses()),
            features=dict(self.features),
            tracked=tracked,
            stacked=tables.stacked or Stacked(),
            memory=self.memory.read(),
            modifiers=assemble.modifier_rows(rows, self._modifiers),
            workloads=self._container_names.names(tracked.cgroups.values()),
            processes=self._processes.read(_holders(tracked)) if details else None,
            oom_kills=self._cgroups.oom_kills(tracked.cgroups.values()) if details else {},
        )

    def forget_freed(self, cpu_seconds: float) -> int:
        """Stop tracking objects that were freed without an event: in bulk, or by kfree_rcu().

        A census of all slabs says which these are (census/freed.py); it may take `cpu_seconds`.
        Return their number. Raises SlabmonError if the slabs cannot be read.
        """
        addresses, indices, times_ns = self.reader.addresses()
        if not len(addresses):
            return 0
        freed = find_freed(addresses, cpu_seconds)
        self.reader.forget(indices[freed], times_ns[freed])
        return int(freed.sum())

    def _activity(self) -> Activity:
        if self.awake:
            return Activity.AWAKE
        return Activity.OFF if self.plan.settings.when == When.OFF else Activity.ASLEEP

    def _asleep(self, seconds: float) -> float:
        """Return for how many of the seconds since tracking began counters stood still."""
        if self.pauses.began is None:
            return self.pauses.seconds
        return min(seconds, self.pauses.seconds + self._started + seconds - self.pauses.began)

    def _read(self, details: bool) -> _Tables:
        reader = self.reader
        seconds = time.monotonic() - self._started
        ended = self._probes.ended()
        samples = reader.samples() if self.awake else np.zeros(0, SAMPLE)
        probed = self._probes.devices(samples["probe"], ended)
        if details:  # by age: recordings then compress well against the snapshot before
            samples = samples[np.argsort(samples["time_ns"], kind="stable")]
        collisions = reader.losses()["stack_collision"]
        evicted = self._stack_table.evict(samples, collisions)
        self._stack_names.forget(evicted)
        self._stack_devices.forget(evicted)
        return _Tables(
            seconds=seconds,
            samples=samples,
            probed=probed,
            stacked=self._stack_table.read() if details else None,
            unobserved=reader.unobserved_frees(),
            frees=reader.frees(),
            large_freed=reader.large_freed_bytes(),
            slots=reader.slots(),
            slabinfo=self._slabinfo(),
        )

    def _update_caches(self) -> None:
        """Learn of new caches and aliases."""
        generations = self.reader.control["cache_generation"]
        self._unsaved |= self._directory.update(*self.reader.caches(), generations)
        self._slab_directory.refresh()

    def _columns(self, slots: Allocations) -> SlotColumns:
        return assemble.slot_columns(
            slots, self._directory, self._location, self._classify, self._gfp_bits
        )

    def _rows(
        self, tables: _Tables, rows: SlotColumns, used: Bool, interval: int
    ) -> tuple[Tracked, tuple[Cache, ...], tuple[Site, ...]]:
        """Return the tracked objects and the caches and sites that their columns index."""
        tracked, cache_names = self._tracked(tables, rows, used)
        grouped = Grouped(tracked.bytes, tracked.interval, interval)
        live_caches = grouped.by(tracked.cache, len(cache_names))
        live_sites = grouped.by(tracked.site, len(rows.locations))
        caches = assemble.cache_rows(
            assemble.cache_sums(
                rows, tables.frees, self._directory, tables.large_freed, tables.unobserved
            ),
            live=dict(zip(cache_names, live_caches, strict=True)),
            slabinfo=tables.slabinfo,
            aliases=self._slab_directory.aliases,
            nature_of=self._slab_directory.nature,
            interval=interval,
            bulk_unseen=self._bulk_unseen,
            net=self.pauses.net if self.awake else None,
        )
        sites = assemble.site_rows(
            rows, dict(zip(rows.locations, live_sites, strict=True)), interval, self._functions
        )
        cache_row = {row.name: i for i, row in enumerate(caches)}
        site_row = {site[:3]: i for i, site in enumerate(sites)}
        indexed = replace(
            tracked,
            cache=np.array([cache_row[name] for name in cache_names], int)[tracked.cache],
            site=np.array([site_row[place] for place in rows.locations], int)[tracked.site],
        )
        return indexed, caches, sites

    def _tracked(self, tables: _Tables, rows: SlotColumns, used: Bool) -> tuple[Tracked, list[str]]:
        """Return the tracked objects as columns, and the cache names that `cache` indexes.

        The site column indexes rows.locations. `used` marks the slots that `rows` are made of.
        """
        samples, stacked = tables.samples, tables.stacked
        row = (np.cumsum(used) - 1)[samples["slot"]]
        names, name_of = assemble.distinct_labels([cache.name for cache in rows.caches])
        contexts = samples["context"].astype(np.uint8)
        stacks: I32 = samples["stack"][contexts == CONTEXTS.index(Context.UNKNOWN)]
        cgroups: list[int] = []
        if stacked is not None:
            stacks = np.concatenate([samples["stack"], stacked.stack])
            cgroups = distinct(samples["cgroup"]).tolist()
        frames = self._stack_names.names(distinct(stacks).tolist(), self._module_generation)
        flags = distinct(rows.flags).tolist()
        contexts = with_inferred(contexts, samples["stack"], frames)
        device, devices = served_devices(
            samples, contexts, tables.probed, self._stack_devices.devices()
        )
        tracked = Tracked(
            cache=name_of[rows.cache_of][row],
            site=rows.location_of[row],
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
            stacks=frames if stacked is not None else {},
            cgroups=self._cgroups.names(cgroups),
            gfp_class={value: self._classify(value) for value in flags},
            gfp_modifiers={value: modifiers_of(value, self._modifiers) for value in flags},
            context=contexts,
            device=device,
            devices=devices,
        )
        return tracked, names

    def _nodes(self) -> tuple[NodeUse, ...]:
        """Return counters by NUMA node; () on a host with one node."""
        if self.facts.nodes < 2:
            return ()
        node_of = node_of_cpu(self.facts.nodes)
        return assemble.node_rows(
            (node_of.get(cpu, 0), self._columns(slots))
            for cpu, slots in enumerate(self.reader.allocations_by_cpu())
        )

    def _devices(self) -> tuple[Device, ...]:
        if self.ledger is None:
            return self._dma.added_to(())
        if time.monotonic() - self._walked > DEVICE_WALK_SECONDS:
            self.reconcile_devices()
        self.ledger.refresh(self.drain)
        self._follow_walks(self.ledger.problem)
        return self._dma.added_to(self.ledger.devices(lambda key: self._directory.get(key).name))

    def _slabinfo(self) -> dict[str, Slabinfo]:
        if self.plan.features["slabinfo"].state == State.OFF or "slabinfo" in self.shed:
            return {}
        rows = slabinfo.read()
        unreadable = FeatureState(State.DEGRADED, "/proc/slabinfo could not be read just now")
        self.features["slabinfo"] = self.plan.features["slabinfo"] if rows else unreadable
        return rows

    def _host(self) -> Host:
        return Host(
            release=self.facts.release,
            machine=self.facts.machine,
            cpus=self.facts.cpus,
            boot_id=self.facts.boot_id,
            memory_bytes=self.memory_bytes,
        )

    @property
    def memory_bytes(self) -> int:
        """The memory that the kernel manages."""
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def _costs(self) -> tuple[ProgramCost, ...]:
        costs = []
        for name, program in self.programs.programs.items():
            info = syscall.program_info(program)
            costs.append(ProgramCost(name.removeprefix("on_"), info.run_seconds, info.runs))
        return tuple(costs)

    def _losses(self) -> Counter[str]:
        losses = self.reader.losses()
        for name, program in self.programs.programs.items():
            misses = syscall.program_info(program).recursion_misses
            losses[RECURSION_PREFIX + name.removeprefix("on_")] = misses
        if self.ledger is not None:
            losses[DEVICE_LEDGER_DISAGREEMENT] = self.ledger.disagreements
            losses[DEVICE_WALK_FAILED] = self.ledger.failed_walks
        return losses

    def close(self) -> None:
        """Detach and unload everything."""
        self._ring.close()
        if self._stack_copies is not None:
            self._stack_copies.close()
        self.programs.close()


def _holders(tracked: Tracked) -> list[int]:
    """Return the processes that allocated most of what is tracked."""
    holders = distinct(tracked.tgid)
    represented = np.maximum(tracked.bytes, tracked.interval)
    size = np.bincount(np.searchsorted(holders, tracked.tgid), represented, len(holders))
    largest: list[int] = holders[np.argsort(-size, kind="stable")[:MAX_PROCESSES]].tolist()
    return largest
