# SPDX-License-Identifier: Apache-2.0
"""The committed rules and examples, as Debian's promtool, vmalert and amtool see them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.boards import ALERTS, FOLDER, RECORDS, panel_queries, parsed

pytestmark = [pytest.mark.servers, pytest.mark.beside]
RULES, EXAMPLES = FOLDER / "rules", FOLDER / "examples"


def run(*command: str, folder: Path) -> str:
    """Return the output of a tool; a complaint is a failure."""
    done = subprocess.run(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_rules_are_valid() -> None:
    said = run("promtool", "check", "rules", "slabmon.yml", folder=RULES)
    assert f"{len(RECORDS) + len(ALERTS)} rules found" in said


def test_each_rule_does_what_its_cases_say() -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", "slabmon_test.yml", folder=RULES)


def test_vmalert_takes_the_rules_as_well() -> None:
    run("vmalert", "-rule=slabmon.yml", "-dryRun", folder=RULES)


def test_the_cases_can_fail(tmp_path: Path) -> None:
    """A threshold that is another makes promtool complain."""
    text = (RULES / "slabmon.yml").read_text()
    (tmp_path / "slabmon.yml").write_text(text.replace("67108864", "671088640"))
    (tmp_path / "slabmon_test.yml").write_text((RULES / "slabmon_test.yml").read_text())
    with pytest.raises(AssertionError, match="SlabmonSlabGrowing"):
        run("promtool", "test", "rules", "slabmon_test.yml", folder=tmp_path)


def test_links_are_replaced_by_the_command_at_the_head_of_the_rules(tmp_path: Path) -> None:
    text = (RULES / "slabmon.yml").read_text()
    (tmp_path / "slabmon.yml").write_text(text)
    command = re.search(r"# +(sed -i .*?slabmon\.yml)$", text, re.DOTALL | re.MULTILINE)
    assert command
    run("sh", "-c", command[1].replace("\n#", "\n"), folder=tmp_path)
    replaced = (tmp_path / "slabmon.yml").read_text().partition("groups:")[2]
    assert "example.com" not in replaced
    assert "https://WHERE/docs/runbooks/ARE/SlabmonDown.md" in replaced
    run("promtool", "check", "rules", "slabmon.yml", folder=tmp_path)


def test_the_example_of_prometheus_is_valid_where_it_is() -> None:
    said = run("promtool", "check", "config", "prometheus.yml", folder=EXAMPLES)
    assert f"{len(RECORDS) + len(ALERTS)} rules found" in said


def test_what_it_shows_as_comments_is_valid_too(tmp_path: Path) -> None:
    text = (EXAMPLES / "prometheus.yml").read_text().replace("../rules", str(RULES))
    shown = text.replace("\n# remote_write:", "\nremote_write:").replace("\n#  ", "\n  ")
    shown = re.sub(
        r"\n    # (?=scheme|tls_config|  ca_file|basic_auth|  username|  password_file)",
        "\n    ",
        shown,
    )
    for name in ("slabmon-ca.pem", "slabmon-password"):
        shown = shown.replace(f"/etc/prometheus/{name}", str(tmp_path / name))
        (tmp_path / name).write_text("")
    (tmp_path / "prometheus.yml").write_text(shown)
    config = yaml.safe_load(shown)
    assert {"tls_config", "basic_auth"} <= set(config["scrape_configs"][0])
    run("promtool", "check", "config", "--syntax-only", "prometheus.yml", folder=tmp_path)
    kept = re.compile(config["remote_write"][0]["write_relabel_configs"][0]["regex"])
    for query in panel_queries():
        if query.board == "fleet.json":
            assert all(kept.fullmatch(name) for name in parsed(query.filled()).names), query.id


def test_the_example_of_alertmanager_is_valid() -> None:
    said = run("amtool", "check-config", "alertmanager.yml", folder=EXAMPLES)
    assert "SUCCESS" in said


@pytest.mark.parametrize("name", ALERTS)
def test_alerts_find_their_receivers(name: str) -> None:
    severity = ALERTS[name]["labels"]["severity"]
    command = ("amtool", "config", "routes", "test", "--config.file=alertmanager.yml")
    labels = (f"alertname={name}", f"severity={severity}", "instance=a")
    # A line before it may warn that no server was asked.
    receiver = run(*command, *labels, folder=EXAMPLES).splitlines()[-1]
    assert receiver == ("nobody" if severity == "info" else "kernel")


def test_grafana_finds_data_source_and_dashboards() -> None:
    """Grafana itself cannot be had from Debian: names and types of its provisioning format."""
    source = yaml.safe_load((EXAMPLES / "grafana-datasource.yml").read_text())
    assert source["apiVersion"] == 1
    assert source["datasources"][0]["type"] == "prometheus"
    scraped = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text())["global"]
    assert source["datasources"][0]["jsonData"]["timeInterval"] == scraped["scrape_interval"]
    provider = yaml.safe_load((EXAMPLES / "grafana-dashboards.yml").read_text())
    assert provider["apiVersion"] == 1
    assert provider["providers"][0]["type"] == "file"
    for path in FOLDER.glob("*.json"):
        assert json.loads(path.read_text())["uid"]
