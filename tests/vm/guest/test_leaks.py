# SPDX-License-Identifier: Apache-2.0
"""`slabmon leaks` names the planted leak, with module, call site, devices, and nothing beside it.

Readings are taken as fast as the guest can, and dated as far apart as the engine wants them. The
command and its settings are those that users have.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.settings import Settings
from slabmon.leaks.observer import Observer
from slabmon.model import State
from slabmon.store.recording import Recording
from tests.support.dated import READINGS, STEP_SECONDS, leaks, record
from tests.vm.guest import planted as module

LEAKS = 127  # per reading; 7 MiB in all
OPENS = 31  # per reading; each file stays open for eight readings, two minutes
KEPT_OPEN = 8 * OPENS
# Samples enough that chance does not decide: with few, the engine may take their scatter for a
# warm-up now and then, and has to wait.
MODES = {
    "sampled": Settings(sample_bytes=1024),
    "exact": Settings(exact=Filter.parse(f"module={module.NAME}")),
}
TOLERANCE = {"sampled": 0.1, "exact": 0.01}


@pytest.fixture(autouse=True)
def loaded() -> Iterator[None]:
    """The planted module with its devices bound, long since as far as slabmon can know."""
    module.load()
    module.run("devices_add")
    module.run("drivers_add")
    yield
    module.unload()


def work(files: deque[IO[bytes]]) -> None:
    """The load between two readings: the leak, heavy churn, and files that are open for long
    and closed in the end."""
    for _ in range(LEAKS):
        Path("/dev/slabmon_planted_leak").open("rb").close()
    for _ in range(OPENS):
        files.append(Path("/dev/slabmon_planted_open").open("rb"))  # noqa: SIM115
        if len(files) > KEPT_OPEN:
            files.popleft().close()
    module.run("churn")


@pytest.mark.parametrize("mode", MODES)
def test_the_planted_leak_is_named_and_the_churn_is_not(
    mode: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    files = deque[IO[bytes]]()
    record(tmp_path / "recording", MODES[mode], lambda: work(files))
    while files:
        files.popleft().close()
    document = leaks(tmp_path / "recording")
    assert document["ready"]
    published = module.expected().by_symbol()
    [leak] = published["planted_leak_alloc"]
    assert (leak.allocs, leak.frees) == ((READINGS - 1) * LEAKS, 0)
    assert published["planted_churn"][0].allocs > 40 * leak.allocs

    [verdict] = document["verdicts"]
    assert verdict["kind"] == "site"
    assert verdict["suspect"].startswith("planted_leak_alloc+")
    assert verdict["module"] == module.NAME
    assert verdict["drivers"] == ["slabmon_good"]
    assert verdict["devices"] == [f"slabmon_good.{number}" for number in range(3)]
    assert verdict["caches"] == [leak.cache]
    pace = leak.allocated_bytes / leak.allocs * LEAKS / STEP_SECONDS * 3600
    assert verdict["growth_bytes_per_hour"] == pytest.approx(pace, rel=TOLERANCE[mode])
    record_property("growth_of_true", round(verdict["growth_bytes_per_hour"] / pace, 3))


# Planted equivalents of real bugs (tests/kmod/bugs.c): call site, and a function of its stack that
# says by what way it was reached.
BUGS = {
    "441bc62741e6, per open": ("planted_leak_alloc", "open_leak"),
    "82ecff655e79, error path": ("planted_domain_alloc", "planted_set_up"),
    "372675a4a9ac, end of a network namespace": ("planted_netns_alloc", "planted_netns_init"),
}
NAMESPACES = 3  # per reading
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET, include/uapi/linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)


def enter_a_namespace_and_end() -> None:
    """Have a process make a network namespace, which ends with it."""
    child = os.fork()
    if not child:
        os._exit(0 if _libc.unshare(_NEW_NETWORK) == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0


def reach_the_bugs() -> None:
    """The load between two readings: all three leaks, beside churn."""
    for _ in range(LEAKS):
        Path("/dev/slabmon_planted_leak").open("rb").close()
    for _ in range(NAMESPACES):
        enter_a_namespace_and_end()
    module.run("error_path")
    module.run("churn")


def found_after(path: Path) -> dict[str, float]:
    """Seconds from the first leaked object to the first verdict, by suspect."""
    observer, found = Observer(), dict[str, float]()
    with Recording(path) as recording:
        for moment in recording.between():
            observer.add(moment.snapshot)
            for verdict in observer.assess().verdicts:
                # One that grows in lockstep with others is a part of a finding.
                for name in (verdict.name, *(part.name for part in verdict.parts)):
                    found.setdefault(name, moment.snapshot.tracking.seconds)
    return found


def unseen(path: Path) -> set[str]:
    """The caches of which frees were not observed in the end: where no program closes that gap, as
    on 5.10, what a network namespace frees by RCU shows it. They are judged by slabinfo, in more
    time than this takes."""
    with Recording(path) as recording:
        *_, last = recording.between()
    caches = {cache.name for cache in last.snapshot.caches if not cache.frees_observable}
    closed = last.snapshot.features["rcu_free"].state == State.ON
    assert not (closed and caches & {bug.cache for bug in planted_bugs()})
    return caches


def planted_bugs() -> list[module.Site]:
    published = module.expected().by_symbol()
    return [published[site][0] for site, _ in BUGS.values()]


def test_real_bugs_of_the_past_are_found_with_owner_and_stack(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    module.run("netns_add")
    record(tmp_path / "recording", MODES["exact"], reach_the_bugs, details=True)
    found = found_after(tmp_path / "recording")
    document = leaks(tmp_path / "recording")
    # All are called equally often: they grow in lockstep, and are one finding with three parts, or
    # findings of their own.
    verdicts = document["verdicts"]
    named = {part["suspect"] for v in verdicts for part in v["parts"]} | {
        v["suspect"] for v in verdicts
    }
    sites = {name.partition("+")[0] for name in named}
    hidden = unseen(tmp_path / "recording")
    published = module.expected().by_symbol()
    expected = {
        bug: found_by
        for bug, found_by in BUGS.items()
        if published[found_by[0]][0].cache not in hidden
    }
    assert sites == {site for site, _ in expected.values()}
    for bug, (site, through) in expected.items():
        (name,) = (name for name in named if name.startswith(f"{site}+"))
        record_property(f"{bug}: seconds", round(found[name]))
        (leak,) = published[site]
        assert leak.live_objects > 0
        own = [verdict for verdict in verdicts if verdict["suspect"] == name]
        for verdict in own:
            assert verdict["module"] == module.NAME
            assert any(through in frame for frame in verdict["stack"]), verdict["stack"]
            assert verdict["processes"][0].startswith("python")
