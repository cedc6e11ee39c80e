# SPDX-License-Identifier: Apache-2.0
"""What top shows, as a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from textual.widgets import Input

from slabmon.tui.prompt import Prompt
from tests.support.terminal import Terminal, on_terminal


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_what_is_shown_is_exported(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{suffix}"

    async def work(terminal: Terminal) -> None:
        await terminal.press("slash", *"kmalloc", "enter", "n", "e")
        terminal.app.query_one(Input).value = str(path)
        await terminal.press("enter")
        assert "2 rows written" in terminal.text
        await terminal.press("e")
        terminal.app.query_one(Input).value = str(path)
        await terminal.press("enter")
        assert "exists" in terminal.text

    on_terminal(work, size=(140, 24))
    text = path.read_text()
    rows = json.loads(text) if suffix == "json" else list(csv.DictReader(text.splitlines()))
    assert [row["name"] for row in rows] == ["kmalloc-64", "kmalloc-large"]
    assert str(rows[0]["live_bytes"]) == "6400"


@pytest.mark.parametrize("name", ["table.txt", "absent/table.csv"])
def test_an_export_that_cannot_be_says_so(name: str, tmp_path: Path) -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("e")
        terminal.app.query_one(Input).value = str(tmp_path / name)
        await terminal.press("enter")
        assert "must end in" in terminal.text or "cannot write" in terminal.text
        assert terminal.app.query_one(Prompt).kind == "export"

    on_terminal(work, size=(140, 24))
    assert not list(tmp_path.iterdir())
