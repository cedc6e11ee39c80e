# SPDX-License-Identifier: Apache-2.0
"""kernel.kptr_restrict 2, as on hardened hosts: what needs addresses of functions says that it
lacks them, and why; everything else is as exact as ever."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.model import Snapshot, State
from tests.live.daemon import Daemon
from tests.vm.guest import planted as module
from tests.vm.guest.test_lifecycle import SLABMON

SETTING = Path("/proc/sys/kernel/kptr_restrict")
UNKNOWN = "[unknown]"
CTOR_CACHE = "slabmon_planted_ctor"
WALL_SECONDS = 1000
REASON = "kernel.kptr_restrict"


@contextmanager
def hide() -> Iterator[None]:
    old = SETTING.read_text()
    SETTING.write_text("2")
    try:
        yield
    finally:
        SETTING.write_text(old)


@pytest.fixture
def hidden() -> Iterator[None]:
    with hide():
        assert "ffff" not in Path("/proc/kallsyms").read_text()[: 1 << 20]
        yield


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SLABMON, *arguments], capture_output=True, text=True, timeout=WALL_SECONDS
    )


def features() -> dict[str, dict[str, str]]:
    done = run("check", "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout)["features"]
    return found


def test_each_feature_that_suffers_names_the_setting() -> None:
    usual = features()
    with hide():
        found = features()
    worse = {
        name
        for name, feature in found.items()
        if name not in usual or feature["state"] != usual[name]["state"]
    }
    assert "symbols" in worse
    assert {name: found[name] for name in worse if REASON not in found[name]["reason"]} == {}


def own_cache(snapshot: Snapshot) -> tuple[int, int, int]:
    for cache in snapshot.caches:
        if cache.name == CTOR_CACHE:
            return cache.allocs, cache.frees, cache.allocated_bytes
    return 0, 0, 0


def planted_in(cache: str) -> tuple[int, int, int]:
    sites = [site for site in module.expected().sites if site.cache == cache]
    return (
        sum(site.allocs for site in sites),
        sum(site.frees for site in sites),
        sum(site.allocated_bytes for site in sites),
    )


@pytest.mark.usefixtures("hidden", "planted")
def test_caches_are_counted_and_sites_have_no_names() -> None:
    with open_tracker(Settings()) as tracker:
        before = tracker.snapshot()
        module.run("caches")
        after = tracker.snapshot()
    grown = tuple(b - a for a, b in zip(own_cache(before), own_cache(after), strict=True))
    if after.features["kmem_cache_free"].state == State.ON:
        assert grown == planted_in(CTOR_CACHE)
    else:  # before 6.1 events do not name caches, and addresses do not lead to them
        assert after.losses["cache_unresolved"] > before.losses["cache_unresolved"]
    assert {site.symbol for site in after.sites} == {UNKNOWN}
    assert sum(site.allocs for site in after.sites) > 0
    assert REASON in after.features["symbols"].reason


@pytest.mark.usefixtures("hidden", "planted")
@pytest.mark.parametrize("wanted", ["site=load_msg", f"module={module.NAME}", "module=veth"])
def test_filters_by_code_say_why_they_are_refused(wanted: str) -> None:
    done = run("snapshot", "--seconds", "1", "--exact", wanted)
    assert done.returncode == 2, done.stdout + done.stderr
    assert REASON in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("hidden")
def test_a_daemon_alerts(tmp_path: Path) -> None:
    """SlabmonFeatureDegraded looks at this series."""
    daemon = Daemon(tmp_path)
    daemon.start()
    try:
        name = 'slabmon_feature_state{feature="symbols",state="off"}'
        assert daemon.scrape_until(name, 1)[name] == 1
    finally:
        daemon.signal(15)
        assert daemon.wait() == 0


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize("command", ["census", "memory"])
def test_what_memory_is_does_not_need_symbols(command: str) -> None:
    done = run(command, "--format", "json", "--cpu-seconds", "900")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    if command == "census":
        assert any(REASON in limit for limit in document["limits"]), document["limits"]


def sites_of_module(snapshot: Snapshot) -> dict[str, int]:
    return {site.symbol: site.allocs for site in snapshot.sites if site.module == module.NAME}


def test_hidden_while_it_runs_what_was_known_stays_known() -> None:
    """Of a module that is loaded meanwhile, sites are the module's, without functions."""
    with open_tracker(Settings()) as tracker:
        try:
            module.load()
            module.run("caches")
            first = sites_of_module(tracker.snapshot())
            assert any(symbol.startswith("planted_") for symbol in first)
            with hide():
                module.unload()
                module.load()
                module.run("caches")
                snapshot = tracker.snapshot()
                second = sites_of_module(snapshot)
                assert second.pop(UNKNOWN) > 0
                assert second == first
                assert snapshot.features["symbols"].state == State.DEGRADED
                assert REASON in snapshot.features["symbols"].reason
                core = [site for site in snapshot.sites if site.module is None]
                assert sum(site.symbol == UNKNOWN for site in core) == 0
            module.unload()
            module.load()
            module.run("caches")
            snapshot = tracker.snapshot()
            assert snapshot.features["symbols"].state == State.ON
        finally:
            module.unload()
