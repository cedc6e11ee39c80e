# SPDX-License-Identifier: Apache-2.0
"""Results of guest runs, one JSON file per kernel: the facts behind docs/support-matrix.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from slabmon.state.fingerprint import sources_digest
from tests.vm.config import kernels
from tests.vm.machine import GuestResult

RESULTS = Path(__file__).resolve().parent / "results"


def of_run(result: GuestResult) -> dict[str, Any]:
    """Return outcomes and measurements of one guest run, by test function, from its junit.xml.

    Each function has the numbers of its cases that `passed`, `failed` and were `skipped` (with
    `reasons`), the properties that its cases measured (record_property), and the digest of the BPF
    sources it ran with.
    """
    sources = sources_digest()
    tests: dict[str, dict[str, Any]] = {}
    for case in ElementTree.parse(result.work / "junit.xml").getroot().iter("testcase"):
        function, _, parameter = case.get("name", "").rstrip("]").partition("[")
        name = f"{case.get('classname', '').rpartition('.')[2]}::{function}"
        counts = {"passed": 0, "failed": 0, "skipped": 0}
        entry = tests.setdefault(name, {"sources": sources, **counts, "reasons": []})
        skipped = case.find("skipped")
        if skipped is not None:
            entry["skipped"] += 1
            entry["reasons"] = sorted({*entry["reasons"], skipped.get("message", "")})
        else:
            bad = case.find("failure") is not None or case.find("error") is not None
            entry["failed" if bad else "passed"] += 1
        for item in case.iter("property"):
            measured = entry.setdefault("measured", {}).setdefault(parameter, {})
            measured[item.get("name", "")] = json.loads(item.get("value", ""))
    return {"kernel": result.kernel, "release": result.release, "tests": tests}


def merge(found: dict[str, Any]) -> None:
    """Add a run to the results of its kernel; a newer result of a test replaces the older one.

    Results of another release are dropped: the files describe the kernels of the lock.
    """
    path = RESULTS / f"{found['kernel']}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    if known.get("release") == found["release"]:
        found = {**found, "tests": {**known["tests"], **found["tests"]}}
    found["tests"] = dict(sorted(found["tests"].items()))
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def load() -> list[dict[str, Any]]:
    """Return all results, in the order of kernels.toml."""
    found = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    order = list(kernels())
    return sorted(found, key=lambda entry: order.index(entry["kernel"]))
