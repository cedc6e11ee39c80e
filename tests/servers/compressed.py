# SPDX-License-Identifier: Apache-2.0
"""Rules and queries in quick motion: what takes hours takes seconds, what they say stays."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.boards import GROUPS

HOUR = 3.0  # seconds that stand for an hour
PACE = "10s"  # ranges that rates are taken over; scrapes come every second
SCRAPES: dict[str, Any] = {
    "scrape_interval": "1s",
    "scrape_timeout": "1s",
    "evaluation_interval": "1s",
}


def compressed(expr: str) -> str:
    """A query of which every offset and range is short."""
    expr = re.sub(r"\[\d+m\]", f"[{PACE}]", expr)
    expr = re.sub(r"offset (\d+)h", lambda found: f"offset {float(found[1]) * HOUR:g}s", expr)
    return expr.replace("> 3600", f"> {HOUR:g}")


def groups(**changed: str) -> list[dict[str, Any]]:
    """The committed groups of rules in quick motion. `changed`: text in expressions to replace,
    such as a threshold, by the text instead."""
    found = copy.deepcopy(GROUPS)
    for group in found:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule["expr"] = compressed(rule["expr"])
            for old, new in changed.items():
                rule["expr"] = rule["expr"].replace(old, new)
            if "for" in rule:
                rule["for"] = "1s"
    return found


def write_rules(folder: Path, **changed: str) -> str:
    """A file with these groups; returns its path."""
    path = folder / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": groups(**changed)}))
    return str(path)
