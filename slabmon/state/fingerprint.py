# SPDX-License-Identifier: Apache-2.0
"""Decide whether kept programs are those this daemon would load.

Fingerprints are compared part by part, so that the log can say why the counters start again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from slabmon.kernel.bpf.sources import BPF_DIR
from slabmon.kernel.planning.plan import Plan
from slabmon.kernel.probe.facts import Facts

# Version of the state record: increased when its content changes its meaning.
FORMAT = 1
_SHOWN = 3


def sources_digest() -> str:
    """Return the SHA-256 of names and contents of all BPF sources, in hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(BPF_DIR.rglob("*.[ch]")):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(BPF_DIR)} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def fingerprint(facts: Facts, plan: Plan) -> dict[str, Any]:
    """Return everything that decides what is in the kernel.

    The sampling interval does not: it is data that may change while programs run.
    """
    exact = plan.settings.exact
    return {
        "format": FORMAT,
        "boot": facts.boot_id,
        "kernel": facts.release,
        "sources": sources_digest(),
        "attach": dict(plan.attach),
        "hooks": {program: asdict(hook) for program, hook in plan.hooks.items()},
        "run": list(plan.run),
        "lanes": [spec.lanes for spec in plan.attached if spec.lanes],
        "exact": asdict(exact) if exact else None,
        **{f"define {name}": value for name, value in plan.defines.items()},
    }


_REASONS = {
    "format": "they were left by another version of slabmon",
    "boot": "they are from another boot",
    "kernel": "the kernel is another",
    "sources": "this version has other BPF programs",
    "attach": "this version attaches to other tracepoints",
    "hooks": "this version watches other kernel functions",
    "run": "this version loads other helper programs",
    "lanes": "this version counts in other tables",
    "exact": "the filter of exact mode changed",
}


def differences(stored: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return the reasons why kept programs cannot be used; [] if they can."""
    reasons = [
        _REASONS.get(key)
        or f"{key.removeprefix('define ')} was {stored.get(key)}, is {expected.get(key)}"
        for key in (*expected, *(key for key in stored if key not in expected))
        if stored.get(key) != expected.get(key)
    ]
    more = len(reasons) - _SHOWN
    return reasons[:_SHOWN] + ([f"and {more} more differences"] if more > 0 else [])
