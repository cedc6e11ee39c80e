# SPDX-License-Identifier: Apache-2.0
"""The manifests for Kubernetes: of this chart, valid, and with the rights of the service."""

from __future__ import annotations

import re
import runpy
import tomllib
from typing import Any

import kubernetes_validate
import pytest
import yaml

from slabmon import __version__
from slabmon.daemon.config import load
from slabmon.daemon.options import OPTIONS
from tests.support.paths import ROOT

RENDER = runpy.run_path(str(ROOT / "packaging/kubernetes/render.py"))
MANIFESTS: dict[str, Any] = {
    document["kind"]: document for document in yaml.safe_load_all(RENDER["MANIFESTS"].read_text())
}
VERSIONS = ("1.25", "1.37")  # the oldest that the chart allows, and the newest known


def container() -> Any:
    (only,) = MANIFESTS["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    return only


def test_the_manifests_are_of_this_chart() -> None:
    """`make manifests` writes them."""
    assert f"# Digest of the chart: {RENDER['digest']()}\n" in RENDER["MANIFESTS"].read_text()
    chart = yaml.safe_load((RENDER["CHART"] / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    assert set(MANIFESTS) == {
        "ConfigMap",
        "DaemonSet",
        "NetworkPolicy",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_the_manifests_are_valid(version: str) -> None:
    for kind, manifest in MANIFESTS.items():
        if kind != "ServiceMonitor":  # a custom resource
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_container_has_the_capabilities_of_the_service() -> None:
    unit = (ROOT / "systemd/slabmon.service").read_text()
    (line,) = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.M)
    context = container()["securityContext"]
    assert {f"CAP_{name}" for name in context["capabilities"]["add"]} == set(line.split())
    assert context["capabilities"]["drop"] == ["ALL"]
    assert context["readOnlyRootFilesystem"]
    assert not context["privileged"]
    assert not context["allowPrivilegeEscalation"]
    (memory,) = re.findall(r"^MemoryMax=(\d+)M$", unit, re.M)
    assert container()["resources"]["limits"]["memory"] == f"{memory}Mi"


def test_the_daemon_takes_the_flags_and_the_configuration(tmp_path: Any) -> None:
    command, config, *flags = container()["args"]
    assert (command, config) == ("serve", "--config=/etc/slabmon/slabmon.toml")
    keys = {option.flag: option.key for option in OPTIONS}
    path = tmp_path / "slabmon.toml"
    path.write_text(MANIFESTS["ConfigMap"]["data"]["slabmon.toml"])
    assert tomllib.loads(path.read_text())
    given = dict(flag.split("=", 1) for flag in flags)
    loaded = load(path, {keys[flag]: value for flag, value in given.items()})
    assert loaded.web.listen_address == ":7522"


def test_prometheus_finds_the_pods_and_may_connect() -> None:
    labels = MANIFESTS["DaemonSet"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        MANIFESTS["DaemonSet"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["Service"]["spec"]["selector"],
        MANIFESTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
    monitor = MANIFESTS["ServiceMonitor"]["spec"]
    assert (
        monitor["selector"]["matchLabels"].items()
        <= MANIFESTS["Service"]["metadata"]["labels"].items()
    )
    (port,) = container()["ports"]
    assert port == {"name": "metrics", "containerPort": 7522}
    (endpoint,) = monitor["endpoints"]
    (service_port,) = MANIFESTS["Service"]["spec"]["ports"]
    (ingress,) = MANIFESTS["NetworkPolicy"]["spec"]["ingress"]
    assert endpoint["port"] == service_port["name"] == port["name"]
    assert ingress["ports"] == [{"port": "metrics"}]
