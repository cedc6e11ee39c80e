# SPDX-License-Identifier: Apache-2.0
"""slabmon check: reports what this host supports, what is degraded, and why."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


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
        "--strict", action="store_true", help="exit with 4 if any capability is missing or degraded"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from slabmon.kernel.planning.plan import NOT_ASKED_FOR
    from slabmon.kernel.session import open_tracker
    from slabmon.kernel.settings import Settings
    from slabmon.model import State
    from slabmon.state.descriptor_store import left_behind
    from slabmon.state.settings import StateSettings

    state = StateSettings()
    left = left_behind(Path(state.pin_directory), Path(state.lock_file))
    with open_tracker(Settings()) as tracker:
        facts, plan, features = tracker.facts, tracker.plan, tracker.features
        instructions = tracker.programs.instructions
    attached = sorted([*plan.attach, *(f"{h.function}()" for h in plan.hooks.values())])
    if options.format == "json":
        document = {
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
            "attach": attached,
            "instructions": instructions,
            "left_behind": left,
            "features": {
                name: {"state": feature.state, "reason": feature.reason}
                for name, feature in features.items()
            },
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write(f"Linux {facts.release} {facts.machine}, {facts.cpus} CPUs\n")
        sys.stdout.write(f"attaches: {', '.join(attached)}\n\n")
        width = max(len(name) for name in features)
        for name, feature in features.items():
            sys.stdout.write(f"{name:{width}}  {feature.state:8}  {feature.reason}".rstrip() + "\n")
        if left:
            sys.stdout.write(
                f"\nA daemon was killed and left {left} kernel objects that are still counting: "
                f"slabmon serve adopts them, rm -r {state.pin_directory} removes them.\n"
            )
    short = any(f.state != State.ON and f.reason != NOT_ASKED_FOR for f in features.values())
    return 4 if options.strict and short else 0
