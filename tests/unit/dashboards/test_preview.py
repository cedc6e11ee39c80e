# SPDX-License-Identifier: Apache-2.0
"""The preview draws every kind of panel and option that the dashboards use, and says so if not."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.boards import BOARDS, FOLDER

PREVIEW = FOLDER / "preview"
KNOWN: dict[str, Any] = json.loads((PREVIEW / "src" / "known.json").read_text())


@pytest.mark.parametrize("name", BOARDS)
def test_everything_of_a_dashboard_is_drawn(name: str) -> None:
    board = BOARDS[name]
    assert set(board) <= set(KNOWN["board"])
    assert {variable["type"] for variable in board["templating"]["list"]} <= set(KNOWN["variables"])
    for panel in board["panels"]:
        kind = KNOWN["panels"][panel["type"]]
        config = panel.get("fieldConfig", {})
        defaults = config.get("defaults", {})
        assert set(panel) <= set(KNOWN["panel"])
        assert set(panel.get("options", {})) <= set(kind["options"])
        assert set(defaults) <= set(KNOWN["field"])
        assert set(defaults.get("custom", {})) <= set(kind["custom"])
        assert not config.get("overrides")
        for target in panel.get("targets", []):
            assert set(target) <= set(KNOWN["target"])
        used = {one["id"] for one in panel.get("transformations", [])}
        assert used <= set(KNOWN["transformations"])


def test_each_kind_of_panel_has_a_component() -> None:
    [kinds] = re.findall(r"KINDS = \{(.*)\}", (PREVIEW / "src" / "panels.jsx").read_text())
    assert {*re.findall(r"(\w+):", kinds), "row"} == set(KNOWN["panels"])


def test_packages_are_pinned_and_name_no_place_to_get_them_from() -> None:
    package = json.loads((PREVIEW / "package.json").read_text())
    versions = {**package["dependencies"], **package["devDependencies"]}
    assert all(re.fullmatch(r"[\d.]+", version) for version in versions.values())
    lock = (PREVIEW / "package-lock.json").read_text()
    assert '"resolved"' not in lock
