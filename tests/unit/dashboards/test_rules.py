# SPDX-License-Identifier: Apache-2.0
"""Prometheus rules and their runbooks: what they ask for is there, what they link is there."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Any

import pytest
import yaml

from dashboards.queries import METRICS
from slabmon.analysis.grouping import DIMENSIONS
from slabmon.cli.main import build_parser
from slabmon.daemon.options import OPTIONS
from slabmon.kernel.exact_filter import Filter
from slabmon.tui.start import Start
from tests.support.boards import ALERTS, BOARDS, FOLDER, RECORDS, RULES, parsed
from tests.support.paths import ROOT

RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = {path.stem: path.read_text() for path in RUNBOOKS.glob("*.md") if path.stem != "README"}
WANTED = (
    "SlabmonLeakSuspected",
    "SlabmonExhaustion",
    "SlabmonSlabGrowing",
    "SlabmonMemoryUnaccounted",
    "SlabmonAllocationFailures",
    "SlabmonAtomicAllocationFailures",
    "SlabmonLosingEvents",
    "SlabmonFeatureDegraded",
    "SlabmonDown",
    "SlabmonNotReading",
    "SlabmonBudgetExceeded",
)
EXPRESSIONS = {**RECORDS, **{name: rule["expr"] for name, rule in ALERTS.items()}}
COMMANDS = sorted(
    {
        line.split("#")[0].split("|")[0].strip()
        for page in PAGES.values()
        for block in re.findall(r"```\n(.*?)```", page, re.DOTALL)
        for line in block.splitlines()
        if line.startswith("slabmon ")
    }
)
RUNBOOK_PLACE, GRAFANA = "https://runbooks.example.com/slabmon/", "https://grafana.example.com/"


def test_every_alert_that_is_wanted_is_there() -> None:
    assert set(ALERTS) == set(WANTED)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_rules_ask_for_metrics_of_the_catalogue(name: str) -> None:
    found = parsed(EXPRESSIONS[name])
    assert set(found.names) <= {*METRICS, *RECORDS, "up"}
    for series, count in found.names.items():
        counter = series in METRICS and METRICS[series].kind != "gauge"
        assert found.in_rate[series] == (count if counter else 0), series


@pytest.mark.parametrize("name", RECORDS)
def test_recorded_series_are_named_by_level_metric_and_operation(name: str) -> None:
    level, metric, operation = name.split(":")
    assert level in (
        "instance",
        "instance_module",
        "instance_driver",
        "instance_family",
        "release_module",
        "release_driver",
    )
    assert re.fullmatch(r"sum|rate5m|growth1h|growth_threshold", operation)
    base = set(parsed(RECORDS[name]).names)
    assert any(metric in series for series in base) or metric == "slabmon_memory_bytes"


@pytest.mark.parametrize("name", ALERTS)
def test_alerts_say_what_where_and_what_next(name: str) -> None:
    rule = ALERTS[name]
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert "{{ $labels.instance }}" in annotations["summary"]
    assert annotations["runbook_url"] == f"{RUNBOOK_PLACE}{name}.md"
    board, _, chosen = annotations["dashboard_url"].removeprefix(f"{GRAFANA}d/").partition("?")
    assert board in {found["uid"] for found in BOARDS.values()}
    assert chosen == (
        "var-job={{ urlquery $labels.job }}&var-instance={{ urlquery $labels.instance }}"
    )


def test_links_are_all_below_the_places_that_the_head_of_the_file_replaces() -> None:
    text = RULES.read_text()
    for place in set(re.findall(r"https://[\w.-]+(?:/slabmon)?", text)):
        assert place in (
            "https://grafana.example.com",
            "https://runbooks.example.com/slabmon",
            "https://YOUR-GRAFANA",
            "https://WHERE",
        )


@pytest.mark.parametrize("name", WANTED)
def test_each_alert_is_seen_to_fire_and_not_to_fire(name: str) -> None:
    """`promtool test rules` runs them: tests/servers/test_promtool.py."""
    cases = yaml.safe_load((FOLDER / "rules" / "slabmon_test.yml").read_text())["tests"]
    found = [
        one for case in cases for one in case.get("alert_rule_test", []) if one["alertname"] == name
    ]
    assert any(one.get("exp_alerts") for one in found)
    assert any(not one.get("exp_alerts") for one in found)


@pytest.mark.parametrize("name", WANTED)
def test_each_alert_has_a_runbook_from_alert_to_command_to_fix(name: str) -> None:
    page = PAGES[name]
    assert page.startswith(f"# {name}\n")
    assert "\n## Look\n" in page
    assert "\n## Fix\n" in page
    assert "```\n" in page.partition("## Look")[2]
    assert f"({name}.md)" in (RUNBOOKS / "README.md").read_text()


def test_there_is_no_runbook_without_an_alert() -> None:
    assert set(PAGES) == set(WANTED)


def test_runbooks_link_pages_that_are_there() -> None:
    for page in [*PAGES.values(), (RUNBOOKS / "README.md").read_text()]:
        for link in re.findall(r"\]\(([^)#]+)\)", page):
            assert (RUNBOOKS / link).exists(), link


def test_runbooks_name_settings_that_are_there() -> None:
    keys, tables = {option.key for option in OPTIONS}, {option.table for option in OPTIONS}
    for page in PAGES.values():
        for table, name in re.findall(r"`(\w+)\.(\w+)`", page):
            assert table not in tables or f"{table}.{name}" in keys


def test_runbooks_name_metrics_that_are_there() -> None:
    for page in PAGES.values():
        for name in re.findall(r"`(slabmon_\w+)", page):
            assert name in METRICS


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_runbooks_are_accepted(command: str) -> None:
    options: Any = build_parser().parse_args(shlex.split(command)[1:])
    assert isinstance(options, argparse.Namespace)
    if options.command == "top":
        Start(2.0, None, options.view, options.sort or "", "").check()
    if options.command == "snapshot":
        assert set((options.by or "site").split(",")) <= set(DIMENSIONS)
        assert options.exact is None or Filter.parse(options.exact)
