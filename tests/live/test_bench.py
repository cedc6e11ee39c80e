# SPDX-License-Identifier: Apache-2.0
"""slabmon bench on this kernel: figures of every mode, pairs counted, nothing left attached."""

from __future__ import annotations

import json

import pytest

from slabmon.bench.modes import FLOOR, NOTHING, SLABMON
from slabmon.cli.main import main

pytestmark = pytest.mark.live


@pytest.mark.parametrize(("workload", "pairs"), [("message-queue", 1.0), ("file-open", 0.0)])
def test_every_mode_is_measured(
    workload: str, pairs: float, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--workload", workload, "--rounds", "4", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (found,) = document["workloads"]
    assert [row["mode"] for row in found["modes"]] == [NOTHING, FLOOR, *SLABMON]
    assert all(len(blocks) == 4 for blocks in found["blocks_ns"].values())
    assert found["kmalloc_pairs"] == pairs
    assert (found["kmem_cache_pairs"] >= 2) == (workload == "file-open"), "its name and its file"
    assert document["programs"]["default"]["kmalloc"]["instructions"] > 100
