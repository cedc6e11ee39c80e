# SPDX-License-Identifier: Apache-2.0
"""Write dashboards/*.json: `python -m dashboards.generate` (make dashboards)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import device, fleet, host

FOLDER = Path(__file__).parent
BOARDS: Mapping[str, Callable[[], Dashboard]] = {
    "host.json": host.make,
    "device.json": device.make,
    "fleet.json": fleet.make,
}


def text(make: Callable[[], Dashboard]) -> str:
    """Return a dashboard as JSON."""
    return json.dumps(make().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Write all dashboards."""
    for name, make in BOARDS.items():
        (FOLDER / name).write_text(text(make))


if __name__ == "__main__":
    main()
