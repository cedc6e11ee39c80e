# SPDX-License-Identifier: Apache-2.0
"""What guest runs found, one JSON file per kernel: the facts behind docs/support-matrix.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.vm.config import kernels
from tests.vm.machine import GuestResult

RESULTS = Path(__file__).resolve().parent / "results"


def of_run(result: GuestResult) -> dict[str, Any]:
    """Outcomes and measurements of one guest run, by test function, from its junit.xml.

    Each function has the numbers of its cases that `passed`, `failed` and were `skipped` (with
    `reasons`), and what its cases measured: a property of a test (record_property) by case.
    """
    tests: dict[str, dict[str, Any]] = {}
    for case in ElementTree.parse(result.work / "junit.xml").getroot().iter("testcase"):
        function, _, parameter = case.get("name", "").rstrip("]").partition("[")
        name = f"{case.get('classname', '').rpartition('.')[2]}::{function}"
        entry = tests.setdefault(name, {"passed": 0, "failed": 0, "skipped": 0, "reasons": []})
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
    """Adds a run to what is known of its kernel; a newer result of a test replaces the older.

    A result of another release is dropped: the files describe the kernels of the lock.
    """
    path = RESULTS / f"{found['kernel']}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    if known.get("release") == found["release"]:
        found = {**found, "tests": {**known["tests"], **found["tests"]}}
    found["tests"] = dict(sorted(found["tests"].items()))
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def load() -> list[dict[str, Any]]:
    """All results, in the order of kernels.toml."""
    found = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    order = list(kernels())
    return sorted(found, key=lambda entry: order.index(entry["kernel"]))
