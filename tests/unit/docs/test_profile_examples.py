# SPDX-License-Identifier: Apache-2.0
"""Examples of scrapers' configuration ask for profiles that are served."""

from __future__ import annotations

import re

import pytest
import yaml

from slabmon.export.pprof import SAMPLE_TYPES
from slabmon.web.app import routes
from slabmon.web.settings import WebSettings
from tests.support.paths import ROOT

EXAMPLES = ROOT / "dashboards" / "examples"


def is_served(path: str) -> bool:
    return any(re.fullmatch(pattern, path) for pattern, _ in routes(WebSettings()))


@pytest.mark.parametrize("name", ["slabmon.alloy", "parca.yml"])
def test_profiles_that_are_asked_for_exist(name: str) -> None:
    text = (EXAMPLES / name).read_text()
    paths = re.findall(r"/debug/[a-z/]+", text)
    assert paths
    assert all(map(is_served, paths))


def test_parca_keeps_samples_that_there_are_and_asks_for_nothing_else() -> None:
    (job,) = yaml.safe_load((EXAMPLES / "parca.yml").read_text())["scrape_configs"]
    profiles = job["profiling_config"]["pprof_config"]
    assert [name for name, profile in profiles.items() if profile["enabled"]] == ["memory"]
    kept = {(kind["type"], kind["unit"]) for kind in profiles["memory"]["keep_sample_type"]}
    assert kept <= set(SAMPLE_TYPES)
