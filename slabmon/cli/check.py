# SPDX-License-Identifier: Apache-2.0
"""slabmon check: reports what this host supports, what is degraded, and why."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slabmon.kernel.tracker import Tracker
    from slabmon.model import FeatureState


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "check",
        parents=[common],
        help="report what this host supports and what is degraded",
        description="Loads and attaches everything for a moment, and reports each capability that "
        "is missing or degraded, with the reason. Needs root.",
    )
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="default table"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with 4 if any capability is missing or degraded; details of a census, "
        "allocinfo and DMA memory, which newer kernels have, do not count",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from slabmon.kernel.census import features as census
    from slabmon.kernel.memory.allocinfo import ALLOCINFO
    from slabmon.kernel.memory.allocinfo import feature as allocinfo_feature
    from slabmon.kernel.planning.dma import DMA_FEATURES
    from slabmon.kernel.planning.plan import NOT_ASKED_FOR
    from slabmon.kernel.session import open_tracker
    from slabmon.kernel.settings import Settings
    from slabmon.model import State
    from slabmon.state.descriptor_store import left_behind
    from slabmon.state.settings import StateSettings

    state = StateSettings()
    left = left_behind(Path(state.pin_directory), Path(state.lock_file))
    with open_tracker(Settings()) as tracker:
        features = {**tracker.features, **census.probe(), ALLOCINFO: allocinfo_feature()}
        document = _document(tracker, features, left)
    if options.format == "json":
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(document))
        if left:
            sys.stdout.write(
                f"\nA daemon was killed and left {left} kernel objects that are still counting: "
                f"slabmon serve adopts them, rm -r {state.pin_directory} removes them.\n"
            )
    short = any(
        feature.state != State.ON and feature.reason != NOT_ASKED_FOR
        for name, feature in features.items()
        if name not in (*census.DETAILS, ALLOCINFO, *DMA_FEATURES)
    )
    return 4 if options.strict and short else 0


def _document(
    tracker: Tracker, features: Mapping[str, FeatureState], left_behind: int
) -> dict[str, Any]:
    """Return everything that check reports. `left_behind` counts kernel objects of a daemon that
    was killed."""
    facts, plan = tracker.facts, tracker.plan
    return {
        "host": {
            "release": facts.release,
            "machine": facts.machine,
            "cpus": facts.cpus,
            "nodes": facts.nodes,
            "boot_id": facts.boot_id,
            "lockdown": facts.lockdown,
            "fentry": not facts.fentry_refused,
            "recursion_guard": facts.recursion_guard,
            "bpf_get_kmem_cache": facts.kfunc_get_cache is not None,
            "site_decides_cache": facts.site_decides_cache,
            "prototypes": {name: list(types) for name, types in facts.prototypes.items()},
        },
        "attach": sorted([*plan.attach, *(f"{h.function}()" for h in plan.hooks.values())]),
        "instructions": tracker.programs.instructions,
        "left_behind": left_behind,
        "features": {
            name: {"state": feature.state, "reason": feature.reason}
            for name, feature in features.items()
        },
    }


def _lines(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the report for people."""
    host, features = document["host"], document["features"]
    yield f"Linux {host['release']} {host['machine']}, {host['cpus']} CPUs"
    yield f"attaches: {', '.join(document['attach'])}"
    yield ""
    width = max(map(len, features))
    for name, feature in features.items():
        yield f"{name:{width}}  {feature['state']:8}  {feature['reason']}".rstrip()
