# SPDX-License-Identifier: Apache-2.0
"""The BPF programs compiled for this process, with their maps as numpy arrays.

The same C, the same defines and the same reader as on a kernel; only bcc, the helpers and the
kernel's memory are replaced (tests/support/native.h).
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slabmon.kernel.bpf import maps, syscall
from slabmon.kernel.bpf.layout import BLOCK, CALL_PATH, DRIVER_PROBE
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.exact_target import Text
from slabmon.kernel.loading.loader import Programs, map_names
from slabmon.kernel.planning.plan import Plan
from slabmon.kernel.settings import Settings
from slabmon.kernel.tables.lanes import Reader
from tests.support import gcc
from tests.support.kallsyms import CORE, Host

HEADER = Path(__file__).parent / "native.h"
WRAPPERS = f"""
#include "{HEADER}"
#include "slabmon.bpf.c"
s64 native_gap(u32 uniform) {{ return exponential_gap(&get_shared()->control, uniform); }}
u64 native_sample_weight(u32 bytes, u32 interval)
{{
	return sample_weight(&get_shared()->control, bytes, interval);
}}
u32 native_decade(u64 nanoseconds) {{ return lifetime_decade(nanoseconds); }}
u64 native_key(u64 cache) {{ return cache_key(get_shared(), cache); }}
"""
OBJECTS = 0xFFFF888100000000  # addresses of objects; never read
GFP_KERNEL = 0xCC0
# Small tables, and a record of each object.
EACH_OBJECT = Settings(
    site_slots=256,
    cache_slots=64,
    samples=4096,
    caches=256,
    stacks=256,
    exact=Filter.parse("min_size=1"),
)
BULK_ALLOC = CORE + 0x1C0  # kmem_cache_alloc_bulk(), up to _etext
HASH_VALUES = {
    "paths": CALL_PATH,
    "page_blocks": BLOCK,
    "percpu_blocks": BLOCK,
    "driver_probes": DRIVER_PROBE,
    "probing": np.dtype("<u4"),
}  # hashes that the reader deletes from
_RANGES = {"native_memory": 256, "native_slabs": 64}
_RECORD_BYTES = 1024  # of a struct of Native.record()
POINTERS = 2048  # most objects of one bulk call


@functools.cache
def compiled(defines: tuple[str, ...]) -> bytes:
    """Return the shared library of one plan, which several tests use."""
    flags = ["-shared", "-fPIC", "-w", "-fno-strict-aliasing", *defines]
    with tempfile.TemporaryDirectory() as folder:
        flags += ["-DKFUNC_GET_KMEM_CACHE=native_cache", "-DKFUNC_RDONLY_CAST=native_cast"]
        return gcc.build(Path(folder), WRAPPERS, *flags).read_bytes()


class Args(ctypes.Structure):
    """struct bpf_raw_tracepoint_args."""

    _fields_ = (("args", ctypes.c_uint64 * 12),)


class Range(ctypes.Structure):
    """struct native_range."""

    _fields_ = (
        ("start", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


class Native:
    """One compiled plan. Events go in, a Reader reads the maps."""

    def __init__(
        self, plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch, hidden: bool = False
    ) -> None:
        self.plan = plan
        defines = {n: v for n, v in plan.defines.items() if not n.startswith("KFUNC_")}
        library = folder / f"native-{len(list(folder.iterdir()))}.so"
        names = map_names(plan)
        maps_ = [f"-D{n}_value={n}_values" for n in names] + [f"-D{n}_map=&{n}" for n in names]
        library.write_bytes(compiled((*gcc.defines(defines), *maps_)))
        self._library = ctypes.CDLL(str(library))  # another file has other memory
        self._library.native_gap.restype = ctypes.c_int64
        self._library.native_sample_weight.restype = ctypes.c_uint64
        self._library.native_key.restype = ctypes.c_uint64
        self._library.native_key.argtypes = [ctypes.c_uint64]
        self._library.native_decade.argtypes = [ctypes.c_uint64]
        self._buffers: list[Any] = []
        self._ranges = dict.fromkeys(_RANGES, 0)
        self._cgroups: dict[int, tuple[int, ...]] = {}  # with its ancestors, by address
        self._pointers = self.memory(bytes(8 * POINTERS))
        self._names = list(map_names(plan))
        functions = [*plan.attach.values(), *plan.run, *plan.hooks]
        self.programs = Programs(
            {name: i for i, name in enumerate(self._names)},
            {name: i for i, name in enumerate(functions)},
            {},
        )
        monkeypatch.setattr(maps, "map_array", self._map_array)
        monkeypatch.setattr(maps, "read_hash", self._read_hash)
        monkeypatch.setattr(maps, "lookup", self._lookup_hash)
        monkeypatch.setattr(maps, "update", self._update_hash)
        monkeypatch.setattr(maps, "delete", self._delete_hash)
        monkeypatch.setattr(
            syscall, "run", lambda number, *args: self.run(functions[number], *args)
        )
        monkeypatch.setattr(syscall, "attach", lambda number: -1)
        monkeypatch.setattr(
            syscall, "set_tail_call", lambda fd, number: self._set_tail_call(fd, functions[number])
        )
        self.set("random", 2463534242)
        self.set("stack", 5)
        self.reader = Reader(self.programs, plan)
        self.programs.attach_hooks(plan)
        host = Host(folder, hidden)
        for name in ("kmem_cache_alloc_bulk", "kmem_cache_alloc_bulk_noprof"):
            host.extra += f"{0 if hidden else BULK_ALLOC:016x} T {name}\n"
        host.write()
        self.symbols = host.symbols()

    def start(self, text: Text = (), seed: int = 1, caches: Sequence[str] = ()) -> None:
        """Do what the tracker does before it attaches."""
        self.reader.prepare(self.symbols, random.Random(seed), text, caches)

    def run(self, function: str, *args: int) -> None:
        """Run one event; arguments become ctx->args."""
        context = Args()
        for position, value in enumerate(args):
            context.args[position] = value & (1 << 64) - 1
        self._library.native_run(getattr(self._library, function), ctypes.byref(context))

    def run_on_stack(self, function: str, stack: bytes, room: int, *args: int) -> int:
        """Run one event whose context lies `room` bytes before the end of a page, which is that of
        the kernel stack too. What is on the stack from the context on is `stack`, except that
        arguments become ctx->args. Return the address of the context."""
        page = mmap.PAGESIZE
        buffer = ctypes.create_string_buffer(3 * page)
        self._buffers.append(buffer)
        end = (ctypes.addressof(buffer) // page + 2) * page
        ctypes.memmove(end - room, stack, min(len(stack), room))
        context = Args.from_address(end - room)
        for position in range(12):
            value = args[position] if position < len(args) else 0
            context.args[position] = value & (1 << 64) - 1
        self._add_range("native_memory", end - room, end, 0)
        self._library.native_run(getattr(self._library, function), ctypes.c_void_p(end - room))
        return end - room

    def set(self, name: str, value: int) -> None:
        """Set a variable of tests/support/native.h: cpu, tgid, tid, time, task, random,
        stack, events_full, no_tail_calls, stack_busy."""
        kind = ctypes.c_uint64 if name in ("time", "task") else ctypes.c_uint32
        kind.in_dll(self._library, f"native_{name}").value = value

    def _add_range(self, table: str, start: int, end: int, value: int) -> None:
        ranges = (Range * _RANGES[table]).in_dll(self._library, table)
        ranges[self._ranges[table]] = Range(start, end, value)
        self._ranges[table] += 1

    def memory(self, data: bytes) -> int:
        """Add readable kernel memory; return its address, a multiple of 64."""
        buffer = ctypes.create_string_buffer(len(data) + 128)
        address = -(-ctypes.addressof(buffer) // 64) * 64
        ctypes.memmove(address, data, len(data))
        self._buffers.append(buffer)
        self._add_range("native_memory", address, address + len(data) + 1, 0)
        return address

    def rewrite(self, address: int, data: bytes) -> None:
        """Change memory() in place."""
        ctypes.memmove(address, data, len(data))

    def cache(self, name: bytes, size: int, flags: int = 0) -> int:
        """Add a struct kmem_cache; return its address."""
        record = bytearray(512)
        at = self.plan.defines
        for macro, value, width in (
            ("OFF_CACHE_NAME", self.memory(name + b"\0"), 8),
            ("OFF_CACHE_FLAGS", flags, 4),
            ("OFF_CACHE_SIZE", size, 4),
            ("OFF_CACHE_OBJECT_SIZE", size, 4),
        ):
            record[at[macro] : at[macro] + width] = value.to_bytes(width, "little")
        return self.memory(bytes(record))

    def record(self, **members: int) -> int:
        """Add a struct with these words, by the macro of their offset; return its address."""
        record = bytearray(_RECORD_BYTES)
        for macro, value in members.items():
            at = self.plan.defines[macro]
            record[at : at + 8] = value.to_bytes(8, "little")
        return self.memory(bytes(record))

    def cgroup(self, *ids: int) -> int:
        """Add a cgroup with the ids of its ancestors, the root first, and its own; return the
        address of its struct cgroup."""
        at = self.plan.defines
        above = self.cgroup(*ids[:-1]) if len(ids) > 1 else 0
        node = self.record(OFF_KN_ID=ids[-1])
        address = self.record(OFF_CGROUP_KN=node, OFF_CGROUP_LEVEL=len(ids) - 1)
        self._cgroups[address] = (*self._cgroups.get(above, ()), address)
        words = self._cgroups[address]
        place = address + at["OFF_CGROUP_ANCESTORS"]
        if at["OFF_CGROUP_ANCESTOR_IDS"]:  # before 6.1
            words, place = ids, address + at["OFF_CGROUP_ANCESTOR_IDS"]
        self.rewrite(place, b"".join(word.to_bytes(8, "little") for word in words))
        return address

    def task(self, cgroup: int, memory: int = 0, active: int = 0) -> int:
        """Add a task of a cgroup of v2; return the address of its struct task_struct. `memory` is
        its cgroup in the hierarchy of the memory controller where that is one of v1, `active` the
        one that is charged for a while."""
        places = {"OFF_CSS_SET_CGROUP": cgroup}
        if self.plan.defines["OFF_CSS_SET_MEMORY"]:
            places["OFF_CSS_SET_MEMORY"] = self.record(OFF_CSS_CGROUP=memory)
        charged = self.record(OFF_CSS_CGROUP=active) if active else 0
        return self.record(OFF_TASK_CGROUPS=self.record(**places), OFF_TASK_ACTIVE_MEMCG=charged)

    def module(
        self,
        base: int,
        size: int,
        event: str = "on_module_load",
        name: bytes = b"",
        init: tuple[int, int] = (0, 0),
    ) -> None:
        """Load or unload a module with text at `base` and init text [start, end)."""
        record = bytearray(1024)
        at = self.plan.defines
        start = at["OFF_MODULE_NAME"]
        record[start : start + len(name)] = name
        for macro, value, width in (
            ("OFF_MODULE_BASE", base, 8),
            ("OFF_MODULE_BYTES", size, 4),
            ("OFF_MODULE_INIT_BASE", init[0], 8),
            ("OFF_MODULE_INIT_BYTES", init[1] - init[0], 4),
        ):
            record[at[macro] : at[macro] + width] = value.to_bytes(width, "little")
        self.run(event, self.memory(bytes(record)))

    def slab(self, start: int, length: int, cache: int) -> None:
        """Put the objects in this range into a cache."""
        self._add_range("native_slabs", start, start + length, cache)

    def kmalloc(
        self,
        site: int,
        address: int,
        requested: int,
        allocated: int,
        gfp: int = GFP_KERNEL,
        node: int = -1,
        cpu: int = 0,
        event: str = "on_kmalloc",
    ) -> None:
        """Run a kmalloc event in the shape of this plan's kernel."""
        self.set("cpu", cpu)
        at = self.plan.defines
        args = [0] * 12
        args[0], args[1] = site, address
        args[at["ARG_KMALLOC_REQUESTED"]] = requested
        args[at["ARG_KMALLOC_ALLOCATED"]] = allocated
        args[at["ARG_KMALLOC_GFP"]] = gfp
        args[at["ARG_KMALLOC_NODE"] or at["ARG_KMALLOC_GFP"] + 1] = node
        self.run(event, *args)

    def cache_alloc(
        self,
        site: int,
        address: int,
        cache: int,
        gfp: int = GFP_KERNEL,
        node: int = -1,
        cpu: int = 0,
    ) -> None:
        """Run a kmem_cache_alloc event in the shape of this plan's kernel."""
        self.set("cpu", cpu)
        at = self.plan.defines
        args = [0] * 12
        args[0], args[1] = site, address
        args[at["ARG_CACHE_ALLOC_CACHE"] or 11] = cache
        args[at["ARG_CACHE_ALLOC_GFP"]] = gfp
        args[at["ARG_CACHE_ALLOC_NODE"] or 10] = node
        self.run("on_kmem_cache_alloc", *args)

    def kfree(self, address: int, cpu: int = 0) -> None:
        """Run a kfree event."""
        self.set("cpu", cpu)
        self.run("on_kfree", 0, address)

    def cache_free(self, address: int, cache: int, cpu: int = 0) -> None:
        """Run a kmem_cache_free event."""
        self.set("cpu", cpu)
        self.run("on_kmem_cache_free", 0, address, cache)

    def callers(self, *frames: int) -> None:
        """Set the stack of a traced function, innermost frame first, without the program and its
        trampoline."""
        stack = (ctypes.c_uint64 * 24).in_dll(self._library, "native_frames")
        stack[:] = [1, 2, *frames, *[0] * (22 - len(frames))]

    def bulk_alloc(
        self,
        cache: int,
        addresses: Sequence[int],
        returned: int | None = None,
        gfp: int = GFP_KERNEL,
        cpu: int = 0,
    ) -> None:
        """Run the exit of kmem_cache_alloc_bulk(), which returns the number of objects, or true."""
        self.set("cpu", cpu)
        count = len(addresses)
        if returned is None:
            returned = 1 if self.plan.defines["BULK_RETURN_MASK"] == 0xFF else count
        args = (cache, gfp, count, self._list(addresses))
        self.run("on_bulk_alloc", *args, *[0] * (11 - len(args)), returned)

    def bulk_free(self, addresses: Sequence[int], cache: int = 0, cpu: int = 0) -> None:
        """Run the entry of kmem_cache_free_bulk(); kfree_bulk() passes no cache."""
        self.set("cpu", cpu)
        self.run("on_bulk_free", cache, len(addresses), self._list(addresses))

    def rcu_free(self, address: int, returned: int, cpu: int = 0) -> None:
        """Run the exit of __kfree_rcu_sheaf()."""
        self.set("cpu", cpu)
        args = [int(not returned)] * 12
        args[1] = address
        args[11] = returned
        self.run("on_rcu_free", *args)

    def _list(self, addresses: Sequence[int]) -> int:
        """Return the address of an array of pointers, which the next call overwrites. The pointers
        after it must not be read."""
        behind = [OBJECTS + (1 << 23)] * (POINTERS - len(addresses))
        self.rewrite(self._pointers, np.array([*addresses, *behind], "<u8").tobytes())
        return self._pointers

    def gap(self, uniform: int) -> int:
        """Call exponential_gap()."""
        return int(self._library.native_gap(ctypes.c_uint32(uniform)))

    def decade(self, nanoseconds: int) -> int:
        """Call lifetime_decade()."""
        return int(self._library.native_decade(nanoseconds))

    def sample_weight(self, size: int, interval: int) -> int:
        """Call sample_weight()."""
        return int(self._library.native_sample_weight(ctypes.c_uint32(size), interval))

    def fd(self, name: str) -> int:
        """Return the descriptor of a map, as maps.map_array() takes it here."""
        return self._names.index(name)

    def key(self, cache: int) -> int:
        """Call cache_key()."""
        return int(self._library.native_key(cache))

    def tracked(self) -> list[int]:
        """Return the addresses of all tracked objects, sorted."""
        if self.plan.defines["HAVE_TAGS"]:
            tags = self._values("tags", np.dtype("<u8"), self.plan.defines["NR_POOL"])
            return sorted(tags[tags != 0].tolist())
        keys = self._values("samples", np.dtype("<u8"), self.used("samples"), "keys")
        return sorted(keys.tolist())

    def pool_used(self) -> int:
        """Return the number of pool indices that are not free."""
        if self.plan.defines["HAVE_TAGS"]:
            return len(self.tracked())
        return self.plan.settings.samples - self.used("free_indices")

    def used(self, name: str) -> int:
        """Return the number of entries of a hash or stack, or of events of the ring buffer."""
        return int(ctypes.c_uint32.in_dll(self._library, f"{name}_used").value)

    def _set_tail_call(self, fd: int, function: str) -> None:
        place = ctypes.c_void_p.in_dll(self._library, f"{self._names[fd]}_values")
        place.value = ctypes.cast(getattr(self._library, function), ctypes.c_void_p).value

    def _values(self, name: str, dtype: np.dtype, count: int, part: str = "values") -> np.ndarray:
        kind = ctypes.c_char * (dtype.itemsize * count)
        block: Any = kind.in_dll(self._library, f"{name}_{part}")
        return np.frombuffer(block, dtype, count)

    def _map_array(
        self, fd: int, dtype: np.dtype, count: int, writable: bool = False
    ) -> np.ndarray:
        return self._values(self._names[fd], dtype, count)

    def _read_hash(self, fd: int, keys: np.ndarray, values: np.ndarray) -> int:
        name, used = self._names[fd], self.used(self._names[fd])
        keys[:used] = self._values(name, keys.dtype, used, "keys")
        values[:used] = self._values(name, values.dtype, used)
        return used

    def _lookup_hash(self, fd: int, key: np.ndarray, value: np.ndarray) -> bool:
        name = self._names[fd]
        keys = self._values(name, key.dtype, self.used(name), "keys")
        at = np.flatnonzero(keys == key)
        value[: len(at)] = self._values(name, value.dtype, len(keys))[at]
        return bool(len(at))

    def _update_hash(self, fd: int, key: np.ndarray, value: np.ndarray) -> None:
        """Write one element that is there."""
        name = self._names[fd]
        keys = self._values(name, key.dtype, self.used(name), "keys")
        (at,) = np.flatnonzero(keys == key)
        self._values(name, value.dtype, len(keys))[at] = value[0]

    def _delete_hash(self, fd: int, key: np.ndarray) -> None:
        """Delete one element that is there: the last one takes its place."""
        name = self._names[fd]
        used = ctypes.c_uint32.in_dll(self._library, f"{name}_used")
        (at,) = np.flatnonzero(self._values(name, key.dtype, used.value, "keys") == key)
        for part, size in (("keys", key.itemsize), ("values", HASH_VALUES[name].itemsize)):
            rows = self._values(name, np.dtype(f"V{size}"), used.value, part)
            rows[at] = rows[-1]
        used.value -= 1
