# SPDX-License-Identifier: Apache-2.0
"""Write packaging/kubernetes/slabmon.yaml: the Helm chart with its defaults, for kubectl apply
(make manifests). The digest of the chart is in it, because tests have no Helm."""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent
CHART = FOLDER.parent / "helm/slabmon"
MANIFESTS = FOLDER / "slabmon.yaml"


def digest() -> str:
    """Return the digest of the files of the chart."""
    content = hashlib.sha256()
    for path in sorted(path for path in CHART.rglob("*") if path.is_file()):
        content.update(f"{path.relative_to(CHART)}\0".encode() + path.read_bytes() + b"\0")
    return content.hexdigest()


def _rendered() -> str:
    """Return all objects. Raises HelmError for a template that cannot be rendered."""
    from helm_python.chart import Chart, lint  # type: ignore[import-not-found]

    if errors := lint(CHART, strict=True)["errors"]:
        raise SystemExit(f"{CHART}: {errors}")
    with Chart.load(CHART) as chart:
        files = chart.render(name="slabmon", namespace="slabmon")
    return "".join(
        f"---\n{text.strip()}\n" for name, text in sorted(files.items()) if name.endswith(".yaml")
    )


if __name__ == "__main__":
    MANIFESTS.write_text(
        # REUSE-IgnoreStart
        "# SPDX-License-Identifier: Apache-2.0\n"
        # REUSE-IgnoreEnd
        "# Rendered by `make manifests` from packaging/helm/slabmon: do not edit.\n"
        f"# Digest of the chart: {digest()}\n"
        "#   kubectl create namespace slabmon\n"
        "#   kubectl label namespace slabmon pod-security.kubernetes.io/enforce=privileged\n"
        f"#   kubectl apply -f slabmon.yaml\n{_rendered()}"
    )
