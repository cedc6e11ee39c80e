# SPDX-License-Identifier: Apache-2.0
"""The ledger: rows that, with what is unaccounted, equal MemTotal to the byte.

Each page is in one row. Where the kernel counts a page twice (shared memory is page cache; stacks
are vmalloc() areas; page-backed kmalloc is unreclaimable slab) one row is the difference. What a
kernel counts, and since when: fs/proc/meminfo.c, include/linux/mmzone.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from slabmon.base.fields import Host, Int, Real, Text
from slabmon.memory.reading import AllocTag, MemoryReading, VmallocCaller
from slabmon.memory.scan import KernelBlocks, MemoryScan, PageKind

TOTAL = "MemTotal"
# Rows of page allocations that no counter names.
KERNEL_PAGES = "kernel_pages"


class RowKind(StrEnum):
    """Who has the memory of a row."""

    KERNEL = "kernel"
    USER = "user"
    CACHE = "cache"
    FREE = "free"
    RESERVED = "reserved"


class Exactness(StrEnum):
    """How a figure was obtained: counted by the kernel, or computed from several figures."""

    EXACT = "exact"
    INFERRED = "inferred"


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """One row. `title` is its name for people; `source` says where the figure is from."""

    name: Text
    title: Text
    bytes: Int
    kind: RowKind
    source: Text
    exactness: Exactness = Exactness.EXACT


@dataclass(frozen=True, kw_only=True)
class Amount:
    """An amount beside the rows: part of one or several of them, or memory beyond MemTotal."""

    name: Text
    title: Text
    bytes: Int
    source: Text


@dataclass(frozen=True, kw_only=True)
class PageHolder:
    """What one call site holds of pages or per-CPU memory, of what was allocated since they are
    watched. `by` is the allocator's function that it called, `live_stderr_bytes` one standard error
    (0: exact)."""

    symbol: Text
    offset: Int
    module: Text | None
    live_bytes: Int
    live_stderr_bytes: Int
    by: Text = ""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """By how many bytes what no counter names has grown, and in how many seconds."""

    bytes: Int
    seconds: Real


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All memory of a host. The rows and `unaccounted_bytes` add up to `total_bytes`, MemTotal.

    `unaccounted_bytes` can be negative: counters are read one after the other, and each CPU keeps
    a few pages of each to itself. `moved_bytes` changed hands while they were read. `scanned` is
    when struct pages were read (None: they were not; memory that no counter names is then
    unaccounted). `within` are parts of rows, `beyond` is memory that MemTotal leaves out.
    `uncounted_bytes` is what no counter names: MemTotal less all counters; it does not depend on a
    scan. `kernel_blocks` say of which blocks the row KERNEL_PAGES is; `pages` and `percpu`, largest
    first, who holds how much of it, and of per-CPU memory, as far as that is watched. `growth` is
    that of `uncounted_bytes`, where earlier readings are known. `allocinfo` is what each line of
    the kernel's source holds, None where the kernel does not profile allocations. `limits` says
    what is not to be seen here, and why.
    """

    taken: Real
    total_bytes: Int
    unaccounted_bytes: Int
    uncounted_bytes: Int
    rows: tuple[LedgerRow, ...]
    scanned: Real | None = None
    moved_bytes: Int = 0
    vmalloc: tuple[VmallocCaller, ...] = ()
    kernel_blocks: tuple[KernelBlocks, ...] = ()
    pages: tuple[PageHolder, ...] = ()
    percpu: tuple[PageHolder, ...] = ()
    within: tuple[Amount, ...] = ()
    beyond: tuple[Amount, ...] = ()
    growth: Growth | None = None
    limits: tuple[Text, ...] = ()
    allocinfo: tuple[AllocTag, ...] | None = None
    host: Host | None = None


@dataclass(frozen=True)
class _Sum:
    """A row that is a sum of lines, less others; absent if the kernel has none of the first."""

    name: str
    title: str
    kind: RowKind
    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()
    source: str = "/proc/meminfo"


_SUMS = (
    _Sum("free", "free", RowKind.FREE, ("MemFree",), ("CmaFree", "Unaccepted")),
    _Sum("free_cma", "free, for movable pages and CMA", RowKind.FREE, ("CmaFree",)),
    _Sum("free_unaccepted", "free, not accepted yet", RowKind.FREE, ("Unaccepted",)),
    _Sum(
        "free_per_cpu",
        "free, on lists of CPUs",
        RowKind.FREE,
        ("per_cpu_lists",),
        source="/proc/zoneinfo",
    ),
    _Sum("anonymous", "anonymous memory of processes", RowKind.USER, ("AnonPages",)),
    _Sum("shared", "shared memory and tmpfs", RowKind.USER, ("Shmem",)),
    _Sum("hugetlb", "huge pages in use", RowKind.USER, ("Hugetlb",), ("hugetlb_unused",)),
    _Sum("page_cache", "page cache of files", RowKind.CACHE, ("Cached",), ("Shmem",)),
    _Sum("buffers", "page cache of block devices", RowKind.CACHE, ("Buffers",)),
    _Sum("slab_reclaimable", "slab, reclaimable", RowKind.KERNEL, ("SReclaimable",)),
    _Sum("slab_unreclaimable", "slab, unreclaimable", RowKind.KERNEL, ("SUnreclaim",)),
    _Sum("kernel_stacks", "kernel stacks", RowKind.KERNEL, ("KernelStack",)),
    _Sum("page_tables", "page tables", RowKind.KERNEL, ("PageTables",)),
    _Sum("page_tables_secondary", "page tables of KVM, IOMMU", RowKind.KERNEL, ("SecPageTables",)),
    _Sum(
        "reclaimable_other",
        "reclaimable, of drivers",
        RowKind.KERNEL,
        ("KReclaimable",),
        ("SReclaimable",),
    ),
    _Sum("gpu", "GPU buffers", RowKind.KERNEL, ("GPUActive", "GPUReclaim")),
    _Sum("dma_buf", "dma-buf heaps", RowKind.KERNEL, ("dmabuf_heaps",), (), "/sys/kernel/dmabuf"),
    _Sum("cma", "CMA, held by drivers", RowKind.KERNEL, ("cma_allocated",), (), "/sys/kernel/mm"),
    _Sum("compressed", "compressed: zram, zswap", RowKind.KERNEL, ("zspages",), (), "/proc/vmstat"),
    _Sum("bounce", "bounce buffers", RowKind.KERNEL, ("Bounce",)),
    _Sum("fuse_writeback", "writeback of FUSE", RowKind.KERNEL, ("WritebackTmp",)),
    _Sum("memmap", "struct pages of added memory", RowKind.KERNEL, ("memmap",), (), "/proc/vmstat"),
    _Sum("hugetlb_unused", "huge pages, unused", RowKind.RESERVED, ("hugetlb_unused",), (), "/sys"),
    _Sum("hardware_corrupted", "broken", RowKind.RESERVED, ("HardwareCorrupted",)),
)
# Rows that are pages of kind KERNEL, beside those of vmalloc() and the per-CPU allocator.
_UNMARKED = (
    ("SecPageTables",),
    ("GPUActive", "GPUReclaim"),
    ("dmabuf_heaps",),
    ("cma_allocated",),
    ("Bounce",),
    ("WritebackTmp",),
    ("memmap",),
    ("HardwareCorrupted",),
)
_LRU = (
    "lru_inactive_anon",
    "lru_active_anon",
    "lru_inactive_file",
    "lru_active_file",
    "lru_unevictable",
    "lru_isolated_anon",
    "lru_isolated_file",
)
_SCAN = "struct pages"
_WITHIN = (
    ("anonymous_huge", "anonymous, in huge pages", "AnonHugePages", "/proc/meminfo"),
    ("mlocked", "locked by mlock()", "Mlocked", "/proc/meminfo"),
    ("mapped", "files and shared memory that are mapped", "Mapped", "/proc/meminfo"),
    ("dirty", "to be written", "Dirty", "/proc/meminfo"),
    ("sockets", "charged to sockets, in slabs and pages", "sockets", "/proc/net/sockstat"),
    ("zswap", "compressed by zswap", "Zswap", "/proc/meminfo"),
)
# The lines and amounts that the ledger is made of, and what early findings project
# (leaks/exhaustion.py); others need not be kept.
USED = frozenset(
    {
        TOTAL,
        *(name for each in _SUMS for name in (*each.plus, *each.minus)),
        *(name for names in _UNMARKED for name in names),
        *(name for _, _, name, _ in _WITHIN),
        *_LRU,
        "SwapCached",
        "Slab",
        "VmallocUsed",
        "Percpu",
        "MemAvailable",
        "Balloon",
        "present",
        "memmap_boot",
        "balloon_managed",
        "stacks_in_vmalloc",
    }
)


def account(reading: MemoryReading, scan: MemoryScan | None = None) -> Ledger:
    """Return the ledger of a reading, with what an earlier scan of struct pages adds to it."""
    amounts = reading.amounts
    total = amounts.get(TOTAL, 0)
    rows = [*_sums(amounts), *_computed(amounts, scan)]
    uncounted = total - sum(row.bytes for row in rows)
    rows += _page_pools(reading, scan)
    if scan is not None:
        rows = [*_with_large(rows, scan), *_kernel_pages(scan)]
    return Ledger(
        taken=reading.taken,
        total_bytes=total,
        unaccounted_bytes=total - sum(row.bytes for row in rows),
        uncounted_bytes=uncounted,
        rows=tuple(sorted(rows, key=lambda row: (-row.bytes, row.name))),
        scanned=scan.reading.taken if scan else None,
        moved_bytes=reading.moved_bytes,
        vmalloc=reading.vmalloc or (),
        kernel_blocks=_named_blocks(scan) if scan else (),
        within=tuple(_within(reading)),
        beyond=tuple(_beyond(amounts, scan)),
        limits=tuple(_limits(reading, scan)),
        allocinfo=reading.allocinfo,
    )


def _sums(amounts: Mapping[Text, int]) -> Iterator[LedgerRow]:
    for each in _SUMS:
        if not any(name in amounts for name in each.plus):
            continue
        minus = [name for name in each.minus if name in amounts]
        value = sum(amounts.get(name, 0) for name in each.plus)
        value -= sum(amounts[name] for name in minus)
        formula = " + ".join(name for name in each.plus if name in amounts)
        formula += "".join(f" - {name}" for name in minus)
        yield LedgerRow(
            name=each.name,
            title=each.title,
            bytes=max(0, value),
            kind=each.kind,
            source=f"{each.source}: {formula}",
        )


def _computed(amounts: Mapping[Text, int], scan: MemoryScan | None) -> Iterator[LedgerRow]:
    """Yield the rows that need more than a sum."""
    vmalloc, stacks = amounts.get("VmallocUsed", 0), amounts.get("KernelStack", 0)
    in_vmalloc = amounts.get("stacks_in_vmalloc", 0) != 0
    yield LedgerRow(
        name="vmalloc",
        title="vmalloc",
        bytes=max(0, vmalloc - stacks) if in_vmalloc else vmalloc,
        kind=RowKind.KERNEL,
        source="/proc/meminfo: VmallocUsed" + (" - KernelStack" if in_vmalloc else ""),
    )
    if "Percpu" in amounts:
        first = _first_chunk(scan)
        yield LedgerRow(
            name="percpu",
            title="per-CPU allocations",
            bytes=max(0, amounts["Percpu"] - (first or 0)),
            kind=RowKind.KERNEL,
            source="/proc/meminfo: Percpu"
            + (" - the first chunk, of before the page allocator" if first is not None else ""),
            exactness=Exactness.EXACT if first is not None else Exactness.INFERRED,
        )
    if amounts.get("SwapCached"):
        yield _swap_cache(amounts)
    if amounts.get("Balloon") and amounts.get("balloon_managed"):
        yield LedgerRow(
            name="balloon",
            title="balloon, given to the hypervisor",
            bytes=amounts["Balloon"],
            kind=RowKind.RESERVED,
            source="/proc/meminfo: Balloon",
        )


def _first_chunk(scan: MemoryScan | None) -> int | None:
    """Return the bytes of Percpu that are no pages of the page allocator: its first chunk is made
    before there is one (pcpu_setup_first_chunk(), mm/percpu.c)."""
    if scan is None or scan.percpu_bytes is None:
        return None
    return max(0, scan.reading.amounts.get("Percpu", 0) - scan.percpu_bytes)


def _swap_cache(amounts: Mapping[Text, int]) -> LedgerRow:
    """Return the row of swapped pages in memory that no process maps. Those that one maps are
    anonymous memory too, so SwapCached is a bound only; the lists of user pages tell."""
    listed = sum(amounts.get(name, 0) for name in _LRU)
    others = sum(amounts.get(name, 0) for name in ("AnonPages", "Cached", "Buffers"))
    return LedgerRow(
        name="swap_cache",
        title="swap cache, not mapped",
        bytes=min(max(0, listed - others), amounts["SwapCached"]),
        kind=RowKind.CACHE,
        source="/proc/vmstat: LRU lists - AnonPages - Cached - Buffers",
        exactness=Exactness.INFERRED,
    )


def _page_pools(reading: MemoryReading, scan: MemoryScan | None) -> Iterator[LedgerRow]:
    pools = reading.page_pools
    if scan is not None and PageKind.PAGE_POOL in scan.marks:
        size, source = scan.kinds.get(PageKind.PAGE_POOL, 0), _SCAN
    elif pools is not None:
        size, source = sum(pools.values()), "netlink netdev: page pools of this network namespace"
    else:
        return
    yield LedgerRow(
        name="page_pool",
        title="page pools of network devices",
        bytes=size,
        kind=RowKind.KERNEL,
        source=source,
    )


def _large_kmalloc(scan: MemoryScan) -> int:
    """Return the bytes of page-backed kmalloc, which NR_SLAB_UNRECLAIMABLE_B includes since 5.4
    (6a486c0ad4dc): marked pages, or what the counters of slabs have beyond the pages of slabs."""
    if PageKind.LARGE_KMALLOC in scan.marks:
        return scan.kinds.get(PageKind.LARGE_KMALLOC, 0)
    return max(0, scan.reading.amounts.get("Slab", 0) - scan.kinds.get(PageKind.SLAB, 0))


def _with_large(rows: Sequence[LedgerRow], scan: MemoryScan) -> Iterator[LedgerRow]:
    """Yield the rows, with page-backed kmalloc apart from unreclaimable slab."""
    for row in rows:
        if row.name != "slab_unreclaimable":
            yield row
            continue
        large = min(_large_kmalloc(scan), row.bytes)
        marked = PageKind.LARGE_KMALLOC in scan.marks
        yield LedgerRow(
            name="kmalloc_large",
            title="page-backed kmalloc",
            bytes=large,
            kind=RowKind.KERNEL,
            source=_SCAN if marked else "/proc/meminfo: Slab - slabs among struct pages",
            exactness=Exactness.EXACT if marked else Exactness.INFERRED,
        )
        yield LedgerRow(
            name=row.name,
            title=row.title,
            bytes=row.bytes - large,
            kind=row.kind,
            source=f"{row.source} - page-backed kmalloc",
            exactness=Exactness.EXACT if marked else Exactness.INFERRED,
        )


def _unmarked(scan: MemoryScan) -> int:
    """Return how many bytes of kind KERNEL belong to rows of their own."""
    amounts = scan.reading.amounts
    size = amounts.get("VmallocUsed", 0)
    if not amounts.get("stacks_in_vmalloc"):
        size += amounts.get("KernelStack", 0)
    percpu = scan.percpu_bytes
    size += amounts.get("Percpu", 0) if percpu is None else percpu
    size += sum(amounts.get(name, 0) for names in _UNMARKED for name in names)
    size += max(0, amounts.get("KReclaimable", 0) - amounts.get("SReclaimable", 0))
    if PageKind.LARGE_KMALLOC not in scan.marks:
        size += _large_kmalloc(scan)
    if not scan.kinds.get(PageKind.MOVABLE):
        size += amounts.get("zspages", 0)
    if PageKind.PAGE_POOL not in scan.marks:
        size += sum((scan.reading.page_pools or {}).values())
    return size


def _kernel_pages(scan: MemoryScan) -> Iterator[LedgerRow]:
    """Yield the row of kernel pages that no other row names: of alloc_pages() and its like."""
    size = sum(block.bytes for block in scan.blocks) - _unmarked(scan)
    yield LedgerRow(
        name=KERNEL_PAGES,
        title="kernel pages without an account",
        bytes=max(0, size),
        kind=RowKind.KERNEL,
        source=f"{_SCAN}: pages in use that are neither users' nor of any other row",
        exactness=Exactness.INFERRED,
    )


def _named_blocks(scan: MemoryScan) -> tuple[KernelBlocks, ...]:
    """Return the blocks that KERNEL_PAGES is of. Those of vmalloc() and the per-CPU allocator are
    single pages; they are taken off by node where vmallocinfo has it."""
    rest = _unmarked(scan)
    taken: dict[int, int] = {}
    for caller in scan.reading.vmalloc or ():
        for node, size in caller.node_bytes.items():
            taken[node] = taken.get(node, 0) + size
    blocks = []
    for block in sorted(scan.blocks, key=lambda block: (block.order, block.node)):
        size = block.bytes
        if block.order == 0:
            off = min(size, taken.get(block.node, 0), rest)
            size, rest = size - off, rest - off
        blocks.append(KernelBlocks(order=block.order, node=block.node, bytes=size))
    result = []
    for block in blocks:  # what no node is known of, from single pages first
        off = min(block.bytes, rest)
        rest -= off
        if block.bytes > off:
            result.append(KernelBlocks(order=block.order, node=block.node, bytes=block.bytes - off))
    return tuple(result)


def _within(reading: MemoryReading) -> Iterator[Amount]:
    amounts = reading.amounts
    for name, title, line, source in _WITHIN:
        if amounts.get(line):
            yield Amount(name=name, title=title, bytes=amounts[line], source=f"{source}: {line}")
    for line, size in amounts.items():
        if line.startswith("zram "):
            yield Amount(name=line, title=f"{line[5:]}, compressed", bytes=size, source="mm_stat")
    for device, size in (reading.page_pools or {}).items():
        if size:
            yield Amount(
                name=f"page_pool {device}",
                title=f"page pools of {device}",
                bytes=size,
                source="netlink netdev",
            )


def _beyond(amounts: Mapping[Text, int], scan: MemoryScan | None) -> Iterator[Amount]:
    """Yield what MemTotal leaves out: memory that the page allocator never got."""
    present, total = amounts.get("present", 0), amounts.get(TOTAL, 0)
    if present > total:
        yield Amount(
            name="boot",
            title="reserved at boot",
            bytes=present - total,
            source="/proc/zoneinfo: present - MemTotal",
        )
    if amounts.get("memmap_boot"):
        yield Amount(
            name="memmap",
            title="of it, struct pages",
            bytes=amounts["memmap_boot"],
            source="/proc/vmstat: nr_memmap_boot_pages",
        )
    first = _first_chunk(scan)
    if first:
        yield Amount(
            name="percpu",
            title="of it, per-CPU variables",
            bytes=first,
            source="/proc/meminfo: Percpu - per-CPU pages among struct pages",
        )
    for line, size in amounts.items():
        if line.startswith("iomem "):
            name = line.removeprefix("iomem ")
            yield Amount(name=name, title=f"of it, {name}", bytes=size, source="/proc/iomem")
    if amounts.get("Balloon") and not amounts.get("balloon_managed"):
        yield Amount(
            name="balloon",
            title="balloon, given to the hypervisor",
            bytes=amounts["Balloon"],
            source="/proc/meminfo: Balloon",
        )


def _limits(reading: MemoryReading, scan: MemoryScan | None) -> Iterator[str]:
    names = {"vmalloc": "callers of vmalloc()", "page_pools": "page pools by network device"}
    for name, reason in sorted(reading.unobserved.items()):
        yield f"{names.get(name, name)}: not observable: {reason}"
    if scan is None:
        yield (
            "struct pages were not read: kernel pages that no counter names are unaccounted, and "
            "page-backed kmalloc is part of unreclaimable slab"
        )
