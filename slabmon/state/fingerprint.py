# SPDX-License-Identifier: Apache-2.0
"""Whether kept programs are those this daemon would load: compared part by part, so that the
reason for loading anew can be told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from slabmon.kernel.bpf.sources import BPF_DIR
from slabmon.kernel.planning.plan import Plan
from slabmon.kernel.probe.facts import Facts

# Of the record (state/record.py): grows when its content changes its meaning.
FORMAT = 1
_SHOWN = 3


def sources_digest() -> str:
    """SHA-256 over names and contents of all BPF sources."""
    digest = hashlib.sha256()
    for path in sorted(BPF_DIR.rglob("*.[ch]")):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(BPF_DIR)} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def fingerprint(facts: Facts, plan: Plan) -> dict[str, Any]:
    """Everything that decides what is in the kernel. The sampling interval does not: it is data
    that may change while programs run."""
    exact = plan.settings.exact
    return {
        "format": FORMAT,
        "boot": facts.boot_id,
        "kernel": facts.release,
        "sources": sources_digest(),
        "attach": dict(plan.attach),
        "hooks": {program: asdict(hook) for program, hook in plan.hooks.items()},
        "run": list(plan.run),
        "exact": asdict(exact) if exact else None,
        **{f"define {name}": value for name, value in plan.defines.items()},
    }


_SAYS = {
    "format": "they were left by another version of slabmon",
    "boot": "they are from another boot",
    "kernel": "the kernel is another",
    "sources": "the BPF programs of this version are others",
    "attach": "other tracepoints are to be attached",
    "hooks": "other kernel functions are to be watched",
    "run": "other helper programs are to be loaded",
    "exact": "the filter of exact mode changed",
}


def differences(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Why kept programs do not serve; [] when they do."""
    reasons = [
        _SAYS.get(key) or f"{key.removeprefix('define ')} was {kept.get(key)}, is {wanted.get(key)}"
        for key in (*wanted, *(key for key in kept if key not in wanted))
        if kept.get(key) != wanted.get(key)
    ]
    more = len(reasons) - _SHOWN
    return reasons[:_SHOWN] + ([f"and {more} more differences"] if more > 0 else [])
