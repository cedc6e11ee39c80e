# SPDX-License-Identifier: Apache-2.0
"""The kernel's table of call paths: pages and per-CPU memory by who asked for them, and room for
new paths.

In the end paths that differ only beyond their call site would fill the table. So when it fills up,
idle paths of the same kind, size and caller are merged into one of them, in the table: their
counters outlive this process, as those of all others. Besides the paths in use, one is left for
each caller and size. The kernel's text bounds the callers.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from slabmon.analysis.sampling import interval95
from slabmon.base.arrays import U64, Records, contained
from slabmon.kernel.bpf import maps
from slabmon.kernel.bpf.layout import BLOCK, CALL_PATH, CONSTANTS
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.loading.loader import (
    BLOCK_FILTER,
    PAGE_BLOCKS,
    PATHS,
    PERCPU_BLOCKS,
    Programs,
)
from slabmon.kernel.planning.plan import Plan
from slabmon.kernel.symbols.allocators import Caller, find_caller
from slabmon.kernel.symbols.kallsyms import UNKNOWN, Location
from slabmon.kernel.tables.assemble import Function
from slabmon.kernel.tables.stacks import without_program
from slabmon.model import BlockKind, Live, PageSite

# Mean bytes between samples of pages, in those of slab objects.
INTERVAL_SHARE = 2
FULL_SHARE = 3 / 4  # of the table: with more paths, idle ones are merged
# Between looks for idle paths: those with nothing live whose counters are as at the look before.
EVERY_NS = 30 * 10**9
_UNIT = 1 << 16  # of variances, in bytes squared
_ORDERS = CONSTANTS["ORDERS"]
_KINDS = {
    CONSTANTS["BLOCK_PAGES"]: BlockKind.PAGES,
    CONSTANTS["BLOCK_PERCPU"]: BlockKind.PERCPU,
}
_COUNTERS = ("failed", "bytes", "freed_bytes", "live_bytes", "live_variance")
_BLOCKS = {PAGE_BLOCKS: "NR_PAGE_BLOCKS", PERCPU_BLOCKS: "NR_PERCPU_BLOCKS"}
_NOWHERE = Location(UNKNOWN, 0, None)


def chances(page_bytes: int, interval: int) -> tuple[U64, U64, U64]:
    """Return, by order of the page allocator, the probability that a block is sampled in units of
    2^-32, the bytes that a sampled one represents, and the variance of that in units of 2^16 bytes
    squared. Interval 0: every block is tracked."""
    size = float(page_bytes) * np.exp2(np.arange(_ORDERS))
    p = -np.expm1(-size / interval) if interval else np.ones(_ORDERS)
    chance = np.maximum(1, np.rint(p * (1 << 32)))
    p = chance / (1 << 32)
    weight, variance = size / p, size**2 * (1 - p) / p**2 / _UNIT
    return (
        np.rint(chance).astype("<u8"),
        np.rint(weight).astype("<u8"),
        np.rint(variance).astype("<u8"),
    )


def write_chances(control: np.void, page_bytes: int, interval: int) -> None:
    """Set the mean number of bytes between samples of pages. Tracked blocks keep their weights."""
    names = ("page_chance", "page_weight", "page_variance")
    for name, column in zip(names, chances(page_bytes, interval), strict=True):
        control[name] = column


@dataclass
class _Sums:
    """Counters of one site while they are added up. `paths` are its stacks by live bytes."""

    function: Function
    allocs: float = 0.0
    frees: float = 0.0
    failed: int = 0
    allocated: int = 0
    freed: int = 0
    objects: float = 0.0
    live: int = 0
    variance: float = 0.0
    sizes: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    paths: dict[tuple[str, ...], int] = field(default_factory=lambda: defaultdict(int))


class PathTable:
    """The call paths of one session."""

    def __init__(
        self,
        programs: Programs,
        plan: Plan,
        control: np.void,
        locate: Callable[[int, int], Location],
        functions: Mapping[Location, Function],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`control` is the record of settings that the programs read. `locate(address, generation)`
        finds the location of an address, and enters it in `functions`. `clock` is CLOCK_MONOTONIC
        in nanoseconds."""
        self._maps, self._plan, self._control = programs.maps, plan, control
        self._locate, self._functions, self._clock = locate, functions, clock
        self._capacity = plan.defines["NR_PATHS"] if plan.defines["HAVE_BLOCKS"] else 0
        self._cpus = plan.defines["NR_LANES"] // plan.defines["NR_NESTING"]
        # Callers and frames of paths, by hash: the kernel's records of them never change.
        self._known: dict[int, tuple[Caller, Function, tuple[str, ...]]] = {}
        # Counters of paths with nothing live, by hash, when idle ones were last looked for, and the
        # time of the next look.
        self._before: dict[int, tuple[int, ...]] = {}
        self._next = 0

    def _read(self) -> tuple[U64, Records]:
        keys, values = np.zeros(self._capacity, "<u8"), np.zeros(self._capacity, CALL_PATH)
        count = maps.read_hash(self._maps[PATHS], keys, values) if self._capacity else 0
        return keys[:count], values[:count]

    def clear(self) -> None:
        """Resolve all paths again: the same addresses may have other names now."""
        self._known = {}

    def _resolve(self, record: np.void) -> tuple[Caller, Function, tuple[str, ...]]:
        generation = int(record["generation"])
        raw = without_program([self._locate(int(a) - 1, generation) for a in record["frames"] if a])
        # A call site is the address behind the call, as in events of slab objects.
        frames = [Location(f.symbol, f.offset + 1, f.module) for f in raw]
        caller = find_caller(frames, _NOWHERE)
        at = frames.index(caller.site) if caller.site in frames else len(frames)
        function = self._functions.get(raw[at], Function()) if at < len(raw) else Function()
        stack = tuple(f"{f.symbol} [{f.module}]" if f.module else f.symbol for f in frames[at:])
        return caller, function, stack

    def rows(
        self, interval: int, exact: Filter | None, *, pages: bool = True
    ) -> tuple[PageSite, ...]:
        """Return call sites of both kinds, largest first; without `pages`, whose frees are not
        seen, those of per-CPU memory. `interval` is the mean number of bytes between samples of
        pages. Of pages only those that the filter selects are shown. Makes room for new paths."""
        keys, records = self._read()
        sums: dict[tuple[BlockKind, Caller], _Sums] = {}
        for kind, caller, function, stack, record in self._paths(keys, records):
            if kind == BlockKind.PAGES and not (pages and _selects(exact, caller.site)):
                continue
            site = sums.setdefault((kind, caller), _Sums(function))
            self._add(site, kind, stack, record)
        self._make_room(keys, records)
        rows = [_row(kind, caller, site, interval) for (kind, caller), site in sums.items()]
        return tuple(sorted(rows, key=lambda r: (-r.live.bytes, r.kind, r.symbol, r.offset, r.by)))

    def _paths(
        self, keys: U64, records: Records
    ) -> Iterator[tuple[BlockKind, Caller, Function, tuple[str, ...], np.void]]:
        for key, record in zip(keys, records, strict=True):
            known = self._known.get(int(key))
            if known is None:
                known = self._known[int(key)] = self._resolve(record)
            yield (_KINDS[int(record["kind"])], *known, record)

    def _add(self, site: _Sums, kind: BlockKind, stack: tuple[str, ...], record: np.void) -> None:
        size = int(record["size"])
        failed, allocated, freed, live, variance = (int(record[name]) for name in _COUNTERS)
        # Frees that are counted while the record is read make these differ for a moment.
        live, variance = max(0, _signed(live)), max(0, _signed(variance))
        times = self._cpus if kind == BlockKind.PERCPU else 1
        site.failed += failed
        site.allocs += allocated / size
        site.frees += freed / size
        site.objects += live / size
        site.allocated += allocated * times
        site.freed += freed * times
        site.live += live * times
        site.variance += variance * float(_UNIT)
        site.sizes[size] += live * times
        site.paths[stack] += live * times

    def _make_room(self, keys: U64, records: Records) -> None:
        """Merge idle paths of a table that fills up; these are its keys and records just read."""
        if len(keys) <= FULL_SHARE * self._capacity:
            self._before = {}
            return
        now = self._clock()
        if now < self._next:
            return
        self._next = now + EVERY_NS
        counters = zip(keys.tolist(), records[list(_COUNTERS)].tolist(), strict=True)
        unused = {key: each for key, each in counters if each[-2:] == (0, 0)}
        idle = {key for key, each in unused.items() if self._before.get(key) == each}
        self._before = unused
        kept: dict[tuple[int, int, Caller], int] = {}
        merged: set[int] = set()
        # Those of the latest generation are kept: their names stay known for longest.
        for i in np.argsort(records["generation"], kind="stable")[::-1].tolist():
            key, record = int(keys[i]), records[i]
            caller = self._known[key][0]
            if key not in idle or caller.site.symbol == UNKNOWN:  # they may get different names
                continue
            to = kept.setdefault((int(record["kind"]), int(record["size"]), caller), i)
            if to != i and self._merge(keys, records, i, to):
                merged |= {key, int(keys[to])}
        if merged:
            self._forget_uncounted(np.array([*merged], "<u8"))

    def _merge(self, keys: U64, records: Records, i: int, to: int) -> bool:
        """Add the counters of one path to another and delete it, unless an event changed either
        since it was read. A reader that comes in between counts it twice, never less."""
        latest = np.zeros(1, CALL_PATH)
        for at in (i, to):
            if not maps.lookup(self._maps[PATHS], keys[at : at + 1], latest):
                return False
            if latest[0].tobytes() != records[at].tobytes():
                return False
        for name in _COUNTERS:
            records[name][to] += records[name][i]
        maps.update(self._maps[PATHS], keys[to : to + 1], records[to : to + 1])
        maps.delete(self._maps[PATHS], keys[i : i + 1])
        del self._known[int(keys[i])]
        return True

    def _forget_uncounted(self, merged: U64) -> None:
        """Stop tracking blocks that were allocated while their paths were merged, and not counted:
        their frees would be. They are a loss."""
        found = {
            name: (places, blocks["path"])
            for name in _BLOCKS.keys() & self._maps.keys()
            for places, blocks in [self._blocks(name)]
        }
        # Paths are read after blocks: the programs add a block first, then what is live.
        keys, records = self._read()
        uncounted = merged[~contained(merged, keys[records["live_bytes"] != 0])]
        for name, (places, paths) in found.items():
            for i in np.flatnonzero(contained(paths, uncounted)).tolist():
                maps.delete(self._maps[name], places[i : i + 1])
                # The programs hardly add to it at the same moment: there is room now.
                self._control["paths_full"] += 1

    def _blocks(self, name: str) -> tuple[U64, Records]:
        """Return the places of all tracked blocks of a map, and the blocks."""
        capacity = self._plan.defines[_BLOCKS[name]]
        places, blocks = np.zeros(capacity, "<u8"), np.zeros(capacity, BLOCK)
        count = maps.read_hash(self._maps[name], places, blocks)
        return places[:count], blocks[:count]

    def forget_pages(self) -> None:
        """Stop tracking all pages, while no program is attached that counts their events: their
        frees were missed."""
        if not self._plan.defines["HAVE_PAGE_SITES"]:
            return
        pages, _ = self._blocks(PAGE_BLOCKS)
        for i in range(len(pages)):
            maps.delete(self._maps[PAGE_BLOCKS], pages[i : i + 1])
        keys, records = self._read()
        for i in np.flatnonzero(records["kind"] == CONSTANTS["BLOCK_PAGES"]).tolist():
            records["live_bytes"][i] = records["live_variance"][i] = 0
            maps.update(self._maps[PATHS], keys[i : i + 1], records[i : i + 1])
        counters = 1 << self._plan.defines["NR_BLOCK_FILTER_BITS"]
        maps.map_array(self._maps[BLOCK_FILTER], np.dtype("u1"), counters, writable=True)[:] = 0


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _selects(exact: Filter | None, site: Location) -> bool:
    if exact is None:
        return True
    if exact.module and site.module != exact.module.replace("-", "_"):
        return False
    if exact.site_module and site.module != exact.site_module.replace("-", "_"):
        return False
    return not exact.site or site.symbol == exact.function.removesuffix("#1")


def _row(kind: BlockKind, caller: Caller, sums: _Sums, interval: int) -> PageSite:
    variance = np.array([sums.variance])
    sampled = float(interval) if kind == BlockKind.PAGES else 0.0
    low, high = interval95(np.array([float(sums.live)]), variance, np.array([sampled]))
    bound = max(sums.live, min(round(float(high[0])), sums.allocated))
    return PageSite(
        kind=kind,
        symbol=caller.site.symbol,
        offset=caller.site.offset,
        module=caller.site.module,
        by=caller.by,
        account=caller.account,
        exact=not sampled,
        allocs=round(sums.allocs),
        frees=round(sums.frees),
        failed=sums.failed,
        allocated_bytes=sums.allocated,
        freed_bytes=sums.freed,
        live=Live(
            objects=round(sums.objects),
            bytes=sums.live,
            stderr_bytes=round(math.sqrt(sums.variance)),
            low_bytes=round(float(low[0])),
            high_bytes=bound,
        ),
        sizes=dict(sorted(sums.sizes.items())),
        stack=max(sums.paths, key=lambda stack: (sums.paths[stack], stack)),
        size=sums.function.size,
        component=sums.function.component,
    )
