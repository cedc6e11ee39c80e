# SPDX-License-Identifier: Apache-2.0
"""What snapshot says beside its tables."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from slabmon.cli.main import main
from slabmon.kernel import session
from slabmon.model import Snapshot
from tests.support.builders import Object, snapshot, tracked


class Kernel:
    """What open_tracker() gives."""

    def __init__(self, taken: Snapshot) -> None:
        self.taken = taken

    def snapshot(self, details: bool = False) -> Snapshot:
        return self.taken


def said(
    objects: list[Object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *options: str,
) -> str:
    """Return what is written on standard error for a kernel in which these objects are live."""
    kernel = Kernel(snapshot(tracked=tracked(objects)))
    monkeypatch.setattr(session, "open_tracker", lambda _: nullcontext(kernel))
    assert main(["snapshot", "--seconds", "0", *options]) == 0
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--by", "process"), "no sampled allocation is live after 12.5s; watch longer"),
        (("--exact", "min_size=8"), "nothing that matches the filter is live after 12.5s"),
        ((), ""),
    ],
)
def test_a_table_without_rows_is_explained(
    options: tuple[str, ...],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    explanation = said([], monkeypatch, capsys, *options)
    assert explanation.startswith(f"slabmon: {text}") if text else not explanation
    assert not said([Object(0, 0, 64, 4096, 1.0)], monkeypatch, capsys, *options)
