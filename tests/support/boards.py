# SPDX-License-Identifier: Apache-2.0
"""The committed dashboards and rules, parsed for tests."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser
import yaml

from tests.support.paths import ROOT

FOLDER = ROOT / "dashboards"
RULES = FOLDER / "rules" / "slabmon.yml"
BOARDS: dict[str, dict[str, Any]] = {
    path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))
}
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
RECORDS: dict[str, str] = {
    rule["record"]: rule["expr"] for group in GROUPS for rule in group["rules"] if "record" in rule
}
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule
}
_VARIABLE = re.compile(r"\$(?!__)(\w+)|\$\{(\w+)[^}]*\}")


@dataclass(frozen=True)
class PanelQuery:
    """One query of a panel."""

    board: str
    panel: dict[str, Any]
    target: dict[str, Any]

    @property
    def id(self) -> str:
        """Return a readable name."""
        return f"{self.board}: {self.panel['title']}: {self.target['refId']}"

    @property
    def expr(self) -> str:
        """Return the query as it is in the dashboard."""
        expr: str = self.target["expr"]
        return expr

    def filled(self, interval: str = "5m", **values: str) -> str:
        """Return the query as Grafana would send it; variables match everything unless given."""
        expr = self.expr.replace("$__rate_interval", interval)
        return _VARIABLE.sub(lambda match: values.get(match[1] or match[2], ".*"), expr)


def panels(name: str) -> list[dict[str, Any]]:
    """Return a dashboard's panels, without rows."""
    return [panel for panel in BOARDS[name]["panels"] if panel["type"] != "row"]


def panel_queries() -> Iterator[PanelQuery]:
    """Yield every query of every panel."""
    for name in BOARDS:
        for panel in panels(name):
            for target in panel["targets"]:
                yield PanelQuery(name, panel, target)


@dataclass
class ParsedQuery:
    """A query's selectors, and how often each series is named, in total and inside a rate."""

    selectors: list[promql_parser.VectorSelector]
    names: Counter[str]
    in_rate: Counter[str]


def parsed(expr: str) -> ParsedQuery:
    """Parse PromQL. Raises an error if it is invalid."""
    query = ParsedQuery([], Counter(), Counter())

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            query.selectors.append(node)
            query.names[node.name or ""] += 1
        if isinstance(node, promql_parser.Call) and node.func.name in ("rate", "increase"):
            query.in_rate[node.args[0].vector_selector.name] += 1
        return True

    promql_parser.walk(promql_parser.parse(expr), visit)
    return query
