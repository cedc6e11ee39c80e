# SPDX-License-Identifier: Apache-2.0
"""slabmon run: leaks of a module that a command loads, exercises and unloads are found exactly."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm.guest import planted as module

SLABMON = ".venv/bin/slabmon"
OPENS, OTHERS = 19, 23
LEAK = "/dev/slabmon_planted_leak"
SITE, CACHE, REQUESTED, SIZE = "planted_leak_alloc", "kmalloc-512", 331, 512
LIFETIME, LIFETIME_OBJECTS = "planted_chardev_alloc", 5
# Long enough for slabmon to read the module's symbols, and for kfree_rcu(), on an emulator that
# shares two busy cores with others: 10 s were too short for symbols once.
SYMBOLS_SECONDS, SETTLE_SECONDS = 45, 60
INSMOD = "insmod $SLABMON_PLANTED_KO"
RMMOD = f"rmmod {module.NAME}"


def opens(count: int) -> str:
    return f"for i in $(seq {count}); do : < {LEAK}; done"


def scenario(*names: str) -> str:
    """Shell code that runs those of these scenarios that this kernel's build has."""
    folder = module.DEBUGFS
    return " && ".join(
        f"if grep -qx {name} {folder}/scenarios; then echo {name} > {folder}/run; fi"
        for name in names
    )


def run(
    path: Path, *arguments: str, script: str, code: int, settle: int = SETTLE_SECONDS
) -> dict[str, Any]:
    """Run a shell script under slabmon and return the report."""
    output = path / "report.json"
    options = ("--settle", str(settle), "--error-exitcode", "9", "--format", "json")
    done = subprocess.run(
        [SLABMON, "run", *options, "-o", str(output), *arguments, "--", "sh", "-ec", script],
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr + (output.read_text() if output.exists() else "")
    return dict(json.loads(output.read_text()))


def planted_objects(report: dict[str, Any]) -> Counter[tuple[str, str]]:
    """Objects left by call sites of the module, by function and cache."""
    found: Counter[tuple[str, str]] = Counter()
    for row in report["stacks"]:
        if row["site"]["module"] == module.NAME:
            found[row["site"]["symbol"], row["cache"]] += row["objects"]
    return found


@pytest.fixture
def unloaded() -> Iterator[None]:
    """No planted module, neither before nor after."""
    assert not module.loaded()
    yield
    if module.loaded():
        module.unload()


@pytest.mark.usefixtures("unloaded")
def test_a_leak_of_a_module_that_came_and_went_is_found_exactly(tmp_path: Path) -> None:
    wait = f"sleep {SYMBOLS_SECONDS}"
    work = scenario("sizes", "caches", "release")
    module.LEAKED[CACHE] += OPENS
    script = " && ".join((INSMOD, wait, work, opens(OPENS), RMMOD))
    report = run(tmp_path, "--exact", f"module={module.NAME}", script=script, code=9, settle=5)
    (row,) = report["stacks"]
    assert (row["site"]["symbol"], row["site"]["module"]) == (SITE, module.NAME)
    assert (row["cache"], row["objects"], row["bytes"]) == (CACHE, OPENS, OPENS * SIZE)
    assert row["requested_bytes"] == OPENS * REQUESTED
    assert row["processes"] == {"sh": OPENS}
    assert any(frame.startswith("misc_open") for frame in row["stack"])
    assert report["left"] == {"objects": OPENS, "bytes": OPENS * SIZE}


@pytest.mark.usefixtures("unloaded")
def test_loaded_and_unloaded_at_once_it_is_still_counted_exactly(tmp_path: Path) -> None:
    """Twice, and maybe elsewhere the second time; names may be missing, the module is not."""
    once = f"{INSMOD} && {opens(OPENS)} && {RMMOD}"
    module.LEAKED[CACHE] += 2 * OPENS
    report = run(
        tmp_path,
        *("--exact", f"module={module.NAME}"),
        script=f"{once} && {once}",
        code=9,
        settle=1,
    )
    rows = report["stacks"]
    assert {row["site"]["module"] for row in rows} == {module.NAME}
    assert {row["cache"] for row in rows} == {CACHE}
    assert sum(row["objects"] for row in rows) == 2 * OPENS


@pytest.mark.usefixtures("unloaded")
def test_a_module_that_frees_everything_leaves_nothing(tmp_path: Path) -> None:
    """By kfree(), in bulk, through RCU, from interrupts, managed by devices, and at the end."""
    scenarios = (
        *("sizes", "large", "krealloc", "caches", "cache_kfree", "bulk", "churn", "rcu"),
        *("cache_rcu", "hardirq", "softirq", "release"),
        *("devices_add", "drivers_add", "drivers_remove", "devices_remove"),
    )
    script = " && ".join((INSMOD, scenario(*scenarios), RMMOD))
    report = run(tmp_path, "--exact", f"module={module.NAME}", script=script, code=0)
    assert (report["stacks"], report["devices"]) == ([], [])
    assert report["exit_code"] == 0


@pytest.mark.usefixtures("unloaded")
def test_what_a_loaded_module_and_its_devices_hold_is_listed(tmp_path: Path) -> None:
    script = " && ".join((INSMOD, scenario("devices_add", "drivers_add")))
    report = run(tmp_path, "--exact", f"module={module.NAME}", script=script, code=9, settle=1)
    left = planted_objects(report)
    assert left[LIFETIME, "kmalloc-2k"] == LIFETIME_OBJECTS
    expected = module.expected()
    held = {row.device for row in expected.managed if row.resources}
    assert held
    assert {row["name"] for row in report["devices"]} == held
    resources = Counter[str]()
    for row in expected.managed:
        resources[row.device] += row.resources
    # The driver core and subsystems may manage resources of the devices as well.
    assert all(row["resources"] >= resources[row["name"]] for row in report["devices"])
    published = Counter[tuple[str, str]]()
    for site in expected.sites:
        published[site.symbol, site.cache] += site.live_objects
    # The objects of devm_add_action() are counted as managed resources only.
    assert {key: count for key, count in left.items() if key in published} == +published
    assert {symbol for symbol, _ in left.keys() - published.keys()} <= {"planted_devm_add_action"}


@pytest.mark.usefixtures("planted")
def test_the_same_leak_in_other_processes_is_not_the_commands(tmp_path: Path) -> None:
    other = f"while :; do {opens(OTHERS)}; sleep 0.2; done"
    with subprocess.Popen(["sh", "-c", other], start_new_session=True) as load:
        try:
            report = run(tmp_path, script=f"{opens(OPENS)}; (exit 0) & wait", code=9, settle=1)
        finally:
            os.killpg(load.pid, 9)
    assert planted_objects(report) == {(SITE, CACHE): OPENS}
    assert len(report["stacks"]) == 1, report["stacks"]
    [site] = module.expected().by_symbol()[SITE]
    assert site.live_objects > OPENS


def test_a_clean_command_leaves_nothing(tmp_path: Path) -> None:
    script = "ls /sys/class | wc -l; cat /proc/slabinfo | tail -1; (exit 0) & wait; true"
    report = run(tmp_path, script=script, code=0)
    assert report["stacks"] == []
