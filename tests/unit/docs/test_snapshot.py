# SPDX-License-Identifier: Apache-2.0
"""docs/snapshot.md and the program that it describes."""

from __future__ import annotations

from slabmon.base.losses import LOSS_CLASSES
from tests.support.paths import ROOT


def test_each_loss_reason_is_explained() -> None:
    text = (ROOT / "docs/snapshot.md").read_text("utf-8")
    assert [reason for reason in LOSS_CLASSES if f"`{reason}`" not in text] == []
