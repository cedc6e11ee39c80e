# SPDX-License-Identifier: Apache-2.0
"""The planted module as the tests see it: load, run a scenario, read what it must have caused."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

DEBUGFS = Path("/sys/kernel/debug/slabmon_planted")
NAME = "slabmon_planted"


@dataclass(frozen=True)
class Site:
    """Allocations of one function from one cache since the last reset.

    `live_*` include what was held before the reset (`before_*`).
    """

    symbol: str
    cache: str
    gfp: str
    alloc_path: str
    free_path: str
    allocs: int
    frees: int
    failed: int
    requested_bytes: int
    allocated_bytes: int
    freed_bytes: int
    before_objects: int
    before_bytes: int
    live_objects: int
    live_bytes: int


@dataclass(frozen=True)
class Managed:
    """Resources of one release function that a device holds, as its driver counts them."""

    bus: str
    device: str
    driver: str
    release: str
    resources: int
    bytes: int
    added: int
    removed: int


@dataclass(frozen=True)
class Node:
    """One managed resource found by the module's walk; sizes are None before 5.14. `slab` is what
    its object occupies."""

    bus: str
    device: str
    driver: str
    release: str
    size: int | None
    slab: int | None


@dataclass(frozen=True)
class Expected:
    """One reading of `expected`."""

    sites: tuple[Site, ...]
    managed: tuple[Managed, ...]

    def by_symbol(self) -> dict[str, list[Site]]:
        """Sites grouped by function: one that uses several caches has several records."""
        grouped: dict[str, list[Site]] = {}
        for site in self.sites:
            grouped.setdefault(site.symbol, []).append(site)
        return grouped


@dataclass(frozen=True)
class Typed:
    """An object of a known struct, or `raw`, which nothing points to and nothing is in."""

    struct: str
    cache: str
    address: int


LEAKED = Counter[str]()  # objects that the module left for good, by cache, in this run of the tests
WITH_TYPES = Path(os.environ["SLABMON_PLANTED_KO"]).parent / "btf" / f"{NAME}.ko"


def load(*parameters: str, types: bool = False) -> None:
    """Insert the module that the harness built for this kernel, with its types (BTF) on request:
    WITH_TYPES is only there where they can be made."""
    path = WITH_TYPES if types else os.environ["SLABMON_PLANTED_KO"]
    subprocess.run(["insmod", path, *parameters], check=True)


def unload() -> None:
    """Remove the module, and add to LEAKED what it leaves."""
    for site in expected().sites:
        if site.free_path == "never":
            LEAKED[site.cache] += site.live_objects
    subprocess.run(["rmmod", NAME], check=True)


def loaded() -> bool:
    """Whether the module is in."""
    return DEBUGFS.exists()


def run(scenario: str) -> None:
    """Run a scenario; OSError when it fails."""
    (DEBUGFS / "run").write_text(scenario)


def scenarios() -> list[str]:
    """What this kernel's build of the module can do, in a sensible order."""
    return (DEBUGFS / "scenarios").read_text().split()


def _record(fields: dict[str, str], kind: type[Site] | type[Managed]) -> Site | Managed:
    values = {
        name: int(text) if kind.__annotations__[name] == "int" else text
        for name, text in fields.items()
    }
    return kind(**values)  # type: ignore[arg-type]


def expected() -> Expected:
    """Parse `expected`: lines `site.N.key value`, `devres.N.key value` and a few totals."""
    groups: dict[tuple[str, int], dict[str, str]] = {}
    totals: dict[str, int] = {}
    for line in (DEBUGFS / "expected").read_text().splitlines():
        key, _, value = line.partition(" ")
        match = re.fullmatch(r"(site|devres)\.(\d+)\.(\w+)", key)
        if match:
            groups.setdefault((match[1], int(match[2])), {})[match[3]] = value
        else:
            totals[key] = int(value)
    if totals["overflows"] or totals["devres_overflows"]:
        raise AssertionError("the planted module's tables are too small: its figures are wrong")
    records = [
        _record(group, Site if kind[0] == "site" else Managed) for kind, group in groups.items()
    ]
    return Expected(
        sites=tuple(item for item in records if isinstance(item, Site)),
        managed=tuple(item for item in records if isinstance(item, Managed)),
    )


def walk() -> list[Node]:
    """Every managed resource of the machine, read by the module under the kernel's locks."""
    nodes = []
    for line in (DEBUGFS / "devres").read_text().splitlines():
        bus, device, driver, release, *sizes = line.split("\t")
        release = release.partition(" [")[0]  # %ps adds the module, where it prints the name
        size, slab = (None if text == "-" else int(text) for text in sizes)
        nodes.append(Node(bus, device, driver, release, size, slab))
    return nodes


def typed() -> list[Typed]:
    """Objects of known structs that the scenario typed_add allocated."""
    lines = (line.split() for line in (DEBUGFS / "typed").read_text().splitlines())
    return [Typed(struct, cache, int(address, 16)) for struct, cache, address in lines]


class Ftrace:
    """Counts of allocation events by calling function, taken by the kernel's own tracer.

    Used as a context manager around a scenario; `counts` is valid afterwards.
    """

    EVENTS = ("kmalloc", "kmalloc_node", "kmem_cache_alloc", "kmem_cache_alloc_node")
    INSTANCE = Path("/sys/kernel/tracing/instances/planted")

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> Ftrace:
        self.INSTANCE.mkdir(exist_ok=True)
        (self.INSTANCE / "tracing_on").write_text("0")
        (self.INSTANCE / "buffer_size_kb").write_text("16384")
        (self.INSTANCE / "trace").write_text("")
        for event in self.EVENTS:
            enable = self.INSTANCE / "events" / "kmem" / event / "enable"
            if enable.exists():
                enable.write_text("1")
        (self.INSTANCE / "tracing_on").write_text("1")
        return self

    def __exit__(self, *_: object) -> None:
        (self.INSTANCE / "tracing_on").write_text("0")
        (self.INSTANCE / "events" / "enable").write_text("0")
        for stats in self.INSTANCE.glob("per_cpu/cpu*/stats"):
            lost = re.search(r"^overrun: (\d+)", stats.read_text(), re.M)
            if lost and int(lost[1]):
                raise AssertionError("ftrace lost events: its buffer is too small")
        line = re.compile(r": (kmalloc|kmem_cache_alloc)(?:_node)?: call_site=(planted_\w+)\+")
        with (self.INSTANCE / "trace").open() as trace:
            for text in trace:
                if match := line.search(text):
                    self.counts[match[1], match[2]] += 1
        self.INSTANCE.rmdir()


def memory(command: str = "") -> dict[str, int]:
    """Hold memory that is in no slab ("hold"), or drop it; return the bytes held, by kind."""
    if command:
        (DEBUGFS / "memory").write_text(command)
    lines = (DEBUGFS / "memory").read_text().splitlines()
    return {name: int(size) for name, size in map(str.split, lines)}


@dataclass(frozen=True)
class PageSite:
    """Pages or per-CPU memory of one function since the module was loaded, in bytes; those of
    per-CPU memory are of one CPU. `kind` is pages, percpu, or user for pages of users."""

    symbol: str
    kind: str
    by: str
    size: int
    allocs: int
    allocated_bytes: int
    freed_bytes: int
    live_bytes: int


@dataclass(frozen=True)
class DmaMemory:
    """DMA memory of one device since the module was loaded."""

    device: str
    allocs: int
    frees: int
    failed: int
    bytes: int
    freed_bytes: int


def dma(command: str = "") -> list[DmaMemory]:
    """Hold DMA memory ("hold"), free some ("less"), remove its devices ("gone"), or free all of it
    ("drop"); return what an exact observer must have seen of each device."""
    if command:
        (DEBUGFS / "dma").write_text(command)
    lines = (line.split() for line in (DEBUGFS / "dma").read_text().splitlines())
    return [DmaMemory(device, *map(int, numbers)) for device, *numbers in lines]


def pages(command: str = "") -> list[PageSite]:
    """Hold pages and per-CPU memory ("hold"), free some ("less") or all of it ("drop"); return what
    an exact observer must have seen of each site."""
    if command:
        (DEBUGFS / "pages").write_text(command)
    lines = (line.split() for line in (DEBUGFS / "pages").read_text().splitlines())
    return [PageSite(symbol, kind, by, *map(int, numbers)) for symbol, kind, by, *numbers in lines]
