# SPDX-License-Identifier: Apache-2.0
"""The dashboards are generated from the catalogue and follow the rules of dashboard-linter:
https://github.com/grafana/dashboard-linter/blob/main/docs/index.md
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from dashboards.generate import BOARDS as MADE
from dashboards.generate import text
from dashboards.queries import METRICS
from tests.support.boards import BOARDS, FOLDER, RECORDS, PanelQuery, panel_queries, panels, parsed

QUERIES = list(panel_queries())
NOT_SLABMONS = {"up"}
LINE = 24
DEVICE_VARIABLES = ["bus", "driver", "device", "module"]


def _variables(board: str) -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in BOARDS[board]["templating"]["list"]}


@pytest.mark.parametrize("name", MADE)
def test_committed_files_are_those_of_the_generator(name: str) -> None:
    assert (FOLDER / name).read_text() == text(MADE[name]), "run: make dashboards"


def test_no_other_dashboard_is_committed() -> None:
    assert set(BOARDS) == set(MADE)


@pytest.mark.parametrize("name", BOARDS)
def test_data_source_job_and_instance_are_chosen_by_variables(name: str) -> None:
    found = _variables(name)
    more = DEVICE_VARIABLES if name == "device.json" else []
    assert list(found) == ["datasource", "job", "instance", *more]
    source = found.pop("datasource")
    assert (source["type"], source["query"], source["label"]) == (
        "datasource",
        "prometheus",
        "Data source",
    )
    for variable in found.values():
        assert variable["type"] == "query"
        assert variable["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert variable["label"] == variable["name"].capitalize()
        assert variable["multi"]
        assert variable["includeAll"]
        assert variable["allValue"] == (".*" if variable["name"] in more else ".+")
        assert variable["refresh"] == 2, "when the time range changes"


@pytest.mark.parametrize("name", BOARDS)
def test_variables_are_looked_up_by_valid_queries(name: str) -> None:
    for variable in list(_variables(name).values())[1:]:
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
        assert match
        expr = re.sub(r"\$\w+", ".*", match[1])
        (series,) = parsed(expr).names
        assert match[2] in ("job", "instance") or match[2] in METRICS[series].labels


@pytest.mark.parametrize("name", BOARDS)
def test_dashboards_are_found_described_linked_and_not_edited_in_place(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == f"slabmon-{name.removesuffix('.json')}"
    assert board["title"].startswith("slabmon / ")
    assert board["description"].endswith(".")
    assert board["editable"] is False
    assert board["tags"] == ["slabmon"]
    assert board["links"][0]["tags"] == ["slabmon"]
    assert board["links"][0]["includeVars"]
    assert board["links"][0]["keepTime"]


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_has_title_description_unit_source_and_queries(name: str) -> None:
    for panel in panels(name):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"], panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_titles_and_ids_of_panels_are_unique(name: str) -> None:
    titles = [panel["title"] for panel in panels(name)]
    numbers = [panel["id"] for panel in BOARDS[name]["panels"]]
    assert len(set(titles)) == len(titles)
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("name", BOARDS)
def test_panels_fill_lines_without_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    lines: dict[int, int] = {}
    for panel in BOARDS[name]["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        lines[at["y"]] = lines.get(at["y"], 0) + at["w"]
    assert set(lines.values()) == {LINE}, lines


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.id)
def test_queries_are_valid_and_their_series_exist(query: PanelQuery) -> None:
    names = set(parsed(query.filled()).names)
    assert names <= {*METRICS, *RECORDS, *NOT_SLABMONS}
    assert query.target["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.id)
def test_every_selector_selects_the_chosen_hosts(query: PanelQuery) -> None:
    """Sums over all hosts of a kernel release have no instance."""
    found = parsed(query.filled(job="JOB", instance="INSTANCE"))
    for selector in found.selectors:
        values = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        assert values["job"] == "JOB"
        assert (selector.name or "").startswith("release_") or values["instance"] == "INSTANCE"


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.id)
def test_counters_are_rated_and_gauges_are_not(query: PanelQuery) -> None:
    found = parsed(query.filled())
    for name in found.names:
        counter = name in METRICS and METRICS[name].kind != "gauge"
        assert found.in_rate[name] == (found.names[name] if counter else 0), name


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.id)
def test_rates_are_over_grafanas_interval(query: PanelQuery) -> None:
    assert set(re.findall(r"\[(.*?)\]", query.expr)) <= {"$__rate_interval"}


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.id)
def test_curves_have_legends_and_tables_have_columns(query: PanelQuery) -> None:
    if query.panel["type"] == "table":
        shown = query.panel["transformations"][0]["options"]["include"]["names"]
        assert shown[-1] == "Value"
        assert query.target["instant"]
        assert query.target["format"] == "table"
    else:
        assert query.target["legendFormat"]


def test_every_metric_is_on_a_dashboard() -> None:
    shown = {name for query in QUERIES for name in parsed(query.filled()).names}
    behind = {name for record in shown & set(RECORDS) for name in parsed(RECORDS[record]).names}
    assert set(METRICS) <= shown | behind


def test_every_recorded_series_is_on_the_dashboard_of_the_fleet() -> None:
    shown = {
        name
        for query in QUERIES
        if query.board == "fleet.json"
        for name in parsed(query.filled()).names
    }
    assert set(RECORDS) - shown <= {
        "instance_driver:slabmon_device_managed_bytes:sum",
        "instance:slabmon_memory_bytes:growth_threshold",
        "instance_family:slabmon_cache_slab_bytes:sum",
    }


def test_links_between_dashboards_lead_somewhere() -> None:
    uids = {board["uid"] for board in BOARDS.values()}
    for path in FOLDER.glob("*.json"):
        assert set(re.findall(r"/d/([\w-]+)", path.read_text())) <= uids
