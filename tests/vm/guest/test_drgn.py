# SPDX-License-Identifier: Apache-2.0
"""drgn, another's reader of kernel memory, beside slabmon: resources, caches, objects.

It reads /proc/kcore by the kernel's DWARF, so the guest must have been started with --debug-info.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from slabmon.analysis.grouping import group_live
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.kernel.tracker import Tracker
from slabmon.model import LARGE_CACHE, UNRESOLVED_CACHE
from tests.vm.guest import dwarf
from tests.vm.guest import planted as module
from tests.vm.guest.census import census_reader

if TYPE_CHECKING:
    import drgn

pytestmark = dwarf.needs_debug_info
CTOR_CACHE = "slabmon_planted_ctor"
QUIET_TRIES = 10


@pytest.fixture(scope="module")
def kernel() -> drgn.Program:
    """The running kernel, as drgn sees it."""
    return dwarf.program()


@pytest.fixture(scope="module")
def tracker() -> Iterator[Tracker]:
    """Every allocation of the planted module is tracked, and its devices are bound already."""
    module.load()
    module.run("devices_add")
    module.run("drivers_add")
    with open_tracker(Settings(exact=Filter.parse(f"module={module.NAME}"))) as session:
        yield session
    module.unload()


def managed(kernel: drgn.Program) -> Counter[tuple[str, str, str, int]]:
    """Every managed resource of every registered device: bus, device, release function, bytes."""
    from drgn.helpers.linux.list import list_for_each_entry

    found: Counter[tuple[str, str, str, int]] = Counter()
    for device in dwarf.devices(kernel):
        head = device.devres_head.address_of_()
        for node in list_for_each_entry("struct devres_node", head, "entry"):
            bus, name = dwarf.subsystem(device) or "-", dwarf.name(device)
            found[bus, name, node.name.string_().decode(), node.size.value_()] += 1
    return found


def test_managed_resources_of_all_devices(
    kernel: drgn.Program, tracker: Tracker, record_property: Callable[[str, object], None]
) -> None:
    """Three readers, one answer: slabmon's ledger, the module's locked walk, drgn's."""
    for _ in range(QUIET_TRIES):
        first = managed(kernel)
        snapshot = tracker.snapshot()
        walked = Counter((n.bus, n.device, n.release, n.size) for n in module.walk())
        if first == managed(kernel):
            break
    assert walked == first
    resources: Counter[tuple[str, str, str]] = Counter()
    size: Counter[tuple[str, str, str]] = Counter()
    for (bus, device, release, number), count in first.items():
        resources[bus, device, release] += count
        size[bus, device, release] += number * count
    rows = [(d.bus or "-", d.name, r) for d in snapshot.devices for r in d.by_release]
    assert Counter({(b, d, r.name): r.resources for b, d, r in rows}) == resources
    assert {(b, d, r.name): r.bytes for b, d, r in rows} == dict(size)
    record_property("resources", resources.total())


def test_caches_and_their_sizes(
    kernel: drgn.Program, tracker: Tracker, record_property: Callable[[str, object], None]
) -> None:
    """Each cache that slabmon saw in use is one of drgn's, with the object size that drgn reads;
    the size in /proc/slabinfo is that of the place an object takes."""
    from drgn.helpers.linux.slab import for_each_slab_cache

    module.run("caches")
    sizes: dict[str, set[tuple[int, int]]] = {}
    for cache in for_each_slab_cache(kernel):
        name = cache.name.string_().decode()
        sizes.setdefault(name, set()).add((cache.object_size.value_(), cache.size.value_()))
    snapshot = tracker.snapshot()
    seen = [
        c for c in snapshot.caches if c.allocs and c.name not in (LARGE_CACHE, UNRESOLVED_CACHE)
    ]
    assert CTOR_CACHE in {cache.name for cache in seen}
    for cache in seen:
        assert cache.object_size in {size for size, _ in sizes[cache.name]}, cache.name
    for cache in snapshot.caches:
        if cache.slabinfo is not None:
            assert cache.slabinfo.object_size in {place for _, place in sizes[cache.name]}
    record_property("caches", len(seen))


def test_objects_of_a_cache(
    kernel: drgn.Program, tracker: Tracker, record_property: Callable[[str, object], None]
) -> None:
    """Live objects of the one cache nobody else uses: drgn walks its slabs and free lists."""
    from drgn.helpers.linux.slab import find_slab_cache, slab_cache_for_each_allocated_object

    module.run("reset")
    cache = find_slab_cache(kernel, CTOR_CACHE)
    assert cache is not None
    assert not list(slab_cache_for_each_allocated_object(cache, "void"))
    module.run("caches")
    objects = list(slab_cache_for_each_allocated_object(cache, "void"))
    live = {group.labels[0]: group.live for group in group_live(tracker.snapshot(), ("cache",))}[
        CTOR_CACHE
    ]
    published = sum(s.live_objects for s in module.expected().sites if s.cache == CTOR_CACHE)
    assert len(objects) == live.objects == published
    assert live.bytes == len(objects) * cache.size.value_()
    record_property("objects", len(objects))


# Of many objects and few, with and without constructors, freed after grace periods and at once.
NAMED_CACHES = (
    *("dentry", "inode_cache", "kernfs_node_cache", "task_struct", "sighand_cache"),
    *("signal_cache", "radix_tree_node", "proc_inode_cache", "ext4_inode_cache", "mm_struct"),
    *("shmem_inode_cache", "vmap_area", CTOR_CACHE),
)
ENOUGH = 10


@pytest.mark.usefixtures("tracker")
def test_objects_in_use_of_named_caches(
    kernel: drgn.Program,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """A census and drgn's enumeration of allocated objects. drgn looks at each page of memory for
    each cache, in Python; here it does so once for all of them."""
    from drgn.helpers.linux import slab
    from drgn.helpers.linux.mm import PageSlab, for_each_page

    module.run("caches")
    equal: dict[str, int] = {}
    differing: dict[str, tuple[int, int]] = {}  # objects in use, by drgn and the census
    with census_reader() as reader:
        for _ in range(QUIET_TRIES):
            pages = [page for page in for_each_page(kernel) if PageSlab(page)]
            monkeypatch.setattr(slab, "for_each_page", lambda _, pages=pages: iter(pages))
            for name in set(NAMED_CACHES) - set(equal):
                before = allocated(kernel, name)
                in_use = reader.read().in_use(name)
                if before != allocated(kernel, name):
                    continue
                if in_use == before:
                    equal[name] = in_use
                else:
                    differing[name] = before, in_use
            if len(equal) >= ENOUGH:
                break
    assert len(equal) >= ENOUGH, differing
    record_property("caches", len(equal))
    record_property("objects", sum(equal.values()))


def allocated(kernel: drgn.Program, name: str) -> int:
    """Return how many objects of a cache drgn finds allocated."""
    from drgn.helpers.linux.slab import find_slab_cache, slab_cache_for_each_allocated_object

    cache = find_slab_cache(kernel, name)
    assert cache is not None, name
    return sum(1 for _ in slab_cache_for_each_allocated_object(cache, "void"))
