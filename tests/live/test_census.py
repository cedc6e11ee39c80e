# SPDX-License-Identifier: Apache-2.0
"""A census of the running kernel against what is planted in it, and what it says of itself."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from slabmon.census.model import Census, Certainty, CgroupState
from slabmon.kernel.census import memory, reading
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.run import take_census
from slabmon.kernel.census.settings import CensusSettings
from slabmon.kernel.probe import btf, slabinfo
from slabmon.store.recording import Recording
from tests.live.cgroups import V1, memory_cgroups
from tests.live.kernel import left_behind, programs
from tests.live.workload import messages
from tests.support.pseudoterminal import on_terminal

pytestmark = pytest.mark.live

TRIES = 5
_ADD_KEY = {"x86_64": 248, "aarch64": 217}[platform.machine()]
_PROCESS_KEYRING = -2
PLANTED = 211  # prime
GRACE_SECONDS = 0.5


def census() -> Census:
    return take_census(CensusSettings())


def in_use(found: Census, name: str) -> int:
    """Objects of the cache of this name or alias. A cache without slabs is in no census."""
    rows = [row for row in found.caches if name == row.name or name in row.aliases]
    assert len(rows) <= 1
    return sum(row.in_use for row in rows)


def test_slabs_and_objects_of_quiet_caches_equal_slabinfo() -> None:
    """A cache may be busy and look the same before and after: one of several tries must agree."""
    for _ in range(TRIES):
        before, found, after = slabinfo.read(), census(), slabinfo.read()
        quiet = [row for row in found.caches if before.get(row.name, 0) == after.get(row.name)]
        assert len(quiet) > 50
        wrong = {
            row.name: (row.objects, row.slab_bytes, row.in_use, before[row.name])
            for row in quiet
            if (row.objects, row.slab_bytes)
            != (before[row.name].total_objects, before[row.name].slab_bytes)
            or row.in_use > before[row.name].active_objects
        }
        if not wrong:
            return
    raise AssertionError(wrong)


def test_every_cache_with_slabs_is_found() -> None:
    before, found, after = slabinfo.read(), census(), slabinfo.read()
    known = {name for name in before if before[name].slab_bytes and after[name].slab_bytes}
    assert known <= {row.name for row in found.caches}


def test_free_objects_agree_with_the_counters_of_their_slabs() -> None:
    """Two ways to the same: lists of free objects, followed, and what slabs count."""
    with memory.start_compiler() as compiler:
        layout = Layout.of(btf.read_vmlinux())
        programs = compiler.finish()
    with programs:
        read = reading.read(memory.KernelMemory(programs, memory.Budget(60)), layout)
    slabs = read.slabs
    free = np.add.reduceat(read.free, slabs.first[:-1], dtype=np.int64)
    wrong = int((free != slabs.objects - read.in_use).sum())
    assert len(slabs) > 1000
    assert wrong <= read.changed + len(slabs) // 1000  # those that changed meanwhile


@contextlib.contextmanager
def message_queues(count: int) -> Iterator[Callable[[int], None]]:
    """So many POSIX message queues, one inode each; the function removes some."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = (ctypes.c_long * 8)(0, 1, 8)  # one message of 8 bytes
    made: list[tuple[bytes, int]] = []
    for number in range(count):
        name = b"/slabmon-%d-%d" % (os.getpid(), number)
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
        descriptor = libc.mq_open(name, flags, 0o600, ctypes.byref(attributes))
        assert descriptor >= 0, os.strerror(ctypes.get_errno())
        made.append((name, descriptor))

    def remove(some: int) -> None:
        for name, descriptor in made[:some]:
            libc.mq_unlink(name)
            os.close(descriptor)
        del made[:some]
        time.sleep(GRACE_SECONDS)  # inodes are freed after an RCU grace period

    try:
        yield remove
    finally:
        remove(len(made))


@contextlib.contextmanager
def queued_messages(count: int) -> Iterator[Callable[[int], None]]:
    """So many System V messages of 200 bytes."""
    with messages() as queue:
        for _ in range(count):
            queue.send(200)

        def remove(some: int) -> None:
            for _ in range(some):
                queue.receive()

        yield remove


@contextlib.contextmanager
def raw_sockets(count: int) -> Iterator[Callable[[int], None]]:
    """So many sockets of a protocol that nobody speaks; the function closes some."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_RAW, 253) for _ in range(count)]

    def remove(some: int) -> None:
        for each in sockets[:some]:
            each.close()
        del sockets[:some]
        time.sleep(GRACE_SECONDS)

    try:
        yield remove
    finally:
        remove(len(sockets))


Plant = Callable[[int], contextlib.AbstractContextManager[Callable[[int], None]]]


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        pytest.param("mqueue_inode_cache", message_queues, id="queues"),
        pytest.param("msg_msg-256", queued_messages, id="messages"),
        pytest.param("RAW", raw_sockets, id="sockets"),
    ],
)
def test_objects_in_use_rise_and_fall_by_what_is_made_and_freed(name: str, plant: Plant) -> None:
    """Others may use the cache meanwhile: one of several tries must be undisturbed."""
    seen = []
    for _ in range(TRIES):
        gc.collect()
        before = in_use(census(), name)
        with plant(PLANTED) as remove:
            made = in_use(census(), name) - before
            remove(97)
            left = in_use(census(), name) - before
        seen.append((made, left))
        if seen[-1] == (PLANTED, PLANTED - 97):
            return
    raise AssertionError(f"{name}: {seen}")


@pytest.mark.skipif(not (V1 / "memory.limit_in_bytes").exists(), reason="no memory cgroups of v1")
def test_objects_of_living_and_removed_cgroups_are_exact() -> None:
    counts = [2, 3, 5, 7, 11, 13, 101, 211]
    with messages() as queue, memory_cgroups(V1, len(counts)) as cgroups:
        for path, count in zip(cgroups, counts, strict=True):
            queue.send_apart(count, 200, lambda path=path: enter(path))  # type: ignore[misc]
        for path in cgroups[::2]:
            path.rmdir()
        found = census()
    prefix = f"/{cgroups[0].parent.name}/"
    held = {
        (row.cgroup, row.state): row.objects_by_cache.get("msg_msg-256", 0)
        for row in found.cgroups
        if row.cgroup.startswith(prefix)
    }
    alive = {path: count for (path, state), count in held.items() if state is CgroupState.ALIVE}
    names = [prefix + path.name for path in cgroups]
    assert alive == dict(zip(names[1::2], counts[1::2], strict=True))
    removed = dict(zip(names[::2], counts[::2], strict=True))
    dying = {path: count for (path, state), count in held.items() if state is CgroupState.DYING}
    assert sum(dying.values()) == sum(removed.values())
    assert {path: n for path, n in dying.items() if path in removed}.items() <= removed.items()


def enter(cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))


def test_nothing_stays_loaded() -> None:
    before = programs()
    census()
    assert not left_behind(before, programs)


def test_an_interrupted_census_ends_cleanly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "slabmon", "census"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=10)
    assert process.returncode in (130, -signal.SIGINT), complaint
    assert b"Traceback" not in complaint


def test_a_census_is_small() -> None:
    """What it takes of CPU time depends on the machine: benchmarks/census.py measures it."""
    assert census().peak_bytes < 300 << 20


def test_cgroups_are_alive_or_dying_and_none_is_empty() -> None:
    found = census()
    assert all(row.objects > 0 and row.bytes > 0 for row in found.cgroups)
    assert {row.state for row in found.cgroups} <= set(CgroupState)


@contextlib.contextmanager
def planted(marker: bytes) -> Iterator[None]:
    """This content in messages, a key, a name of a socket, a pipe, and the name of a file."""
    libc = ctypes.CDLL(None, use_errno=True)
    name = marker.decode()
    with (
        messages() as queue,
        socket.socket(socket.AF_UNIX) as named,
        tempfile.TemporaryDirectory(prefix=name * 3) as folder,
    ):
        queue.fill(marker * 8)
        for _ in range(PLANTED):
            queue.send(200)
        named.bind(b"\0" + marker)
        (Path(folder) / (name * 4)).write_bytes(marker)
        reader, writer = os.pipe()
        os.write(writer, marker)
        key = libc.syscall(_ADD_KEY, b"user", marker, marker * 4, len(marker) * 4, _PROCESS_KEYRING)
        try:
            assert key >= 0 or ctypes.get_errno() in (errno.ENOSYS, errno.EDQUOT, errno.EPERM)
            yield
        finally:
            os.close(reader)
            os.close(writer)


@pytest.mark.parametrize(
    ("by", "form"), [("cache", "json"), ("signature", "table"), ("module", "csv")]
)
def test_no_content_and_no_address_leaves_the_child(by: str, form: str) -> None:
    marker = b"slabmon-planted-content"
    with planted(marker):
        process = subprocess.run(
            [sys.executable, "-m", "slabmon", "--debug", "census", "--by", by, "--format", form],
            capture_output=True,
            check=True,
        )
    assert marker not in process.stdout + process.stderr
    assert not re.search(rb"ffff[0-9a-f]{12}", process.stdout + process.stderr)
    if form == "json":
        assert max(numbers(json.loads(process.stdout))) < 1 << 46


def recorded(path: Path) -> list[Census]:
    """The censuses of a recording."""
    if not path.exists():
        return []
    with Recording(path) as recording:
        snapshots = [snapshot for _, snapshot in recording.between()]
    return [snapshot.census for snapshot in snapshots if snapshot.census]


def test_no_content_and_no_address_is_recorded(tmp_path: Path) -> None:
    marker, path = b"slabmon-planted-content", tmp_path / "slabs.db"
    command = [sys.executable, "-m", "slabmon", "--debug", "record", "-o", str(path)]
    with (
        planted(marker),
        subprocess.Popen(
            [*command, "--interval", "2"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as recorder,
    ):
        deadline = time.monotonic() + 120
        while not recorded(path) and recorder.poll() is None and time.monotonic() < deadline:
            time.sleep(1)
        recorder.send_signal(signal.SIGINT)
        output, _ = recorder.communicate(timeout=60)
    censuses = recorded(path)
    assert censuses
    for text in (repr(censuses), output.decode()):
        assert marker.decode() not in text
        assert not re.search("ffff[0-9a-f]{12}", text)


def test_most_objects_of_mixed_caches_are_named() -> None:
    """Of the bytes that kmalloc holds, at least 70 % without symbols of data."""
    found = census()
    total: Counter[str] = Counter()
    named: Counter[str] = Counter()
    for row in found.owners:
        total[row.cache] += row.bytes
        if row.certainty is not Certainty.UNKNOWN:
            named[row.cache] += row.bytes
    kmalloc = [cache for cache in total if "kmalloc" in cache]
    for cache in sorted(kmalloc, key=lambda cache: -total[cache]):
        print(f"{cache:20} {total[cache]:12,} bytes, named {named[cache] / total[cache]:6.1%}")
    share = sum(named[cache] for cache in kmalloc) / sum(total[cache] for cache in kmalloc)
    print(f"{'all of kmalloc':20} {share:.1%}; {found.cpu_seconds:.1f} s of CPU time")
    assert share >= 0.7
    assert not any("suffice" in text for text in found.limits)


def test_owners_add_up_to_the_objects_in_use() -> None:
    """Those of a cache that changed meanwhile, or whose slabs were sampled, nearly."""
    found = census()
    counted: Counter[str] = Counter()
    for owned in found.owners:
        counted[owned.cache] += owned.objects
    for row in found.caches:
        if row.in_use:
            assert counted[row.name] == pytest.approx(row.in_use, rel=0.05, abs=64), row.name


def test_planted_objects_are_named() -> None:
    """Pipes by the union of inodes that leads to them, timers by the function they hold, long names
    by the member that points to them."""
    libc = ctypes.CDLL(None, use_errno=True)

    def counts(found: Census) -> dict[str, int]:
        rows = found.owners
        name = "pointed to by dentry.d_name.name"
        return {
            "pipes": sum(row.objects for row in rows if row.type == "pipe_inode_info"),
            "timers": sum(row.objects for row in rows if "timerfd" in row.signature),
            "names": sum(row.objects for row in rows if row.signature == name),
        }

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        before = counts(census())
        for number in range(PLANTED):
            for end in (*os.pipe(), libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC)):
                assert end >= 0
                stack.callback(os.close, end)
            (folder / f"{number:064}").touch()
        after = counts(census())
    assert {name: after[name] - before[name] for name in after} == {
        name: pytest.approx(PLANTED, abs=PLANTED * 0.05) for name in after
    }


def numbers(value: object) -> Iterator[float]:
    """Every number in a JSON document."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float):
        yield value


def test_a_census_under_load_counts_nothing_twice() -> None:
    """Objects come and go on all CPUs meanwhile: in use are never more than there is room for, and
    what is quiet stays exact."""
    code = (
        "import os, socket, time\n"
        "end = time.monotonic() + 60\n"
        "while time.monotonic() < end:\n"
        "    pairs = [socket.socketpair() for _ in range(200)]\n"
        "    for pair in pairs:\n"
        "        for end_ in pair: end_.close()\n"
    )
    workers = [
        subprocess.Popen(["nice", sys.executable, "-c", code]) for _ in range(os.cpu_count() or 1)
    ]
    try:
        with messages() as queue:
            before = in_use(census(), "msg_msg-256")
            for _ in range(PLANTED):
                queue.send(200)
            found = census()
            assert in_use(found, "msg_msg-256") - before == PLANTED
            for row in found.caches:
                assert 0 <= row.in_use <= row.objects
                assert row.in_use + row.free == row.objects
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def test_interrupting_the_command_ends_it_cleanly() -> None:
    """Ctrl-C reaches both processes; a signal to the command alone ends the other one too."""
    for send in (os.kill, os.killpg):
        with on_terminal("census") as terminal:
            command = psutil.Process(terminal.process.pid)
            children: list[psutil.Process] = []
            while not children:
                terminal.read(0.05)
                assert terminal.process.poll() is None
                children = command.children(recursive=True)
            send(terminal.process.pid, signal.SIGINT)
            assert terminal.end() == 130
            assert terminal.restored
            assert "Traceback" not in terminal.text
            assert "in use" not in terminal.text
            assert not psutil.wait_procs(children, 5)[1]
