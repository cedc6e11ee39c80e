# SPDX-License-Identifier: Apache-2.0
"""The overview on the terminal: what it asks its source for, and where its rows lead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from textual.strip import Strip

from slabmon.model import Snapshot
from slabmon.sources.recording import RecordingSource
from slabmon.store.writer import RecordingWriter
from slabmon.tui import feed
from slabmon.tui.layout import lay_out
from slabmon.views.overview.view import OVERVIEW
from slabmon.views.table import Table
from tests.support.builders import window_of
from tests.support.conditions import fast_leak, old_leak, record
from tests.support.terminal import Script, Terminal, WithPast, host, on_terminal, start

BEGIN = start(view="overview")


def test_verdicts_of_a_daemons_past_are_left_to_their_own_view(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float | None] = []
    monkeypatch.setattr(feed, "assessment", lambda past, at: asked.append(at))

    async def work(terminal: Terminal) -> None:
        await terminal.read()
        assert asked
        assert set(asked) == {None}
        asked.clear()
        await terminal.press("t")
        await terminal.type("-5m")
        await terminal.press("enter")
        await terminal.read()
        assert "RECORDED" in terminal.text
        assert asked == []
        terminal.app.show_view("verdicts")
        await terminal.read()
        assert asked
        assert None not in asked

    on_terminal(work, WithPast(host(2000)), (140, 24), BEGIN)


def test_a_recording_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []
    monkeypatch.setattr(feed, "assessment", lambda past, at: asked.append(at))
    with RecordingWriter(tmp_path / "recording") as history:
        history.append(fast_leak(10.0), at=1e9)

    async def work(terminal: Terminal) -> None:
        await terminal.read()
        assert asked == [1e9]

    on_terminal(work, RecordingSource(tmp_path / "recording"), (140, 24), BEGIN)


# Is anything wrong, what, and whose is it?
ANSWERS = {
    "old-leak": (
        "WARN kmalloc-256 holds 14.0 GiB, 58.3% of memory",
        "has ops ring_ops [nic] at +8",
    ),
    "fast-leak": (
        "WARN kmalloc-1k holds 728.0 MiB, 3.0% of memory",
        "out of memory in 1h23m",
        "nic_ring_fill [nic] in backup.service",
    ),
    "healthy": ("nothing wrong; leaks:",),
}


@pytest.mark.parametrize("condition", ANSWERS)
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_the_first_screen_of_a_recording_says_what_is_wrong_and_whose_it_is(
    tmp_path: Path, condition: str, size: tuple[int, int]
) -> None:
    async def work(terminal: Terminal) -> None:
        shown = " ".join(terminal.text.split())
        assert [answer for answer in ANSWERS[condition] if answer not in shown] == []

    on_terminal(work, RecordingSource(record(tmp_path)[condition]), size, BEGIN)


def test_old_memory_leads_to_a_census_which_is_taken() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.press("slash")
        await terminal.type("what ~ 256")
        await terminal.press("enter", "enter")
        assert "overview > kmalloc-256 > owners" in terminal.text
        assert "no census yet" in terminal.text
        await terminal.read()
        assert terminal.source.censuses == 1
        later = old_leak(20.0, counted=True)
        await terminal.feed(later)
        assert "has ops ring_ops [nic] at +8" in terminal.text
        await terminal.press("escape")
        assert "98% of it is module nic's (likely): has ops" in terminal.text

    on_terminal(work, Script(old_leak(10.0)), (140, 24), BEGIN)


def test_the_overview_alone_takes_no_census() -> None:
    async def work(terminal: Terminal) -> None:
        await terminal.read()
        assert terminal.source.censuses == 0

    on_terminal(work, Script(replace(host(), census=None)), begin=BEGIN)


def leaking() -> list[Snapshot]:
    return [fast_leak(float(second)) for second in range(10, 100, 10)]


@pytest.mark.parametrize(("width", "growth"), [(80, False), (100, True), (140, True)])
def test_growth_makes_room_for_the_sentence(width: int, growth: bool) -> None:
    table = Table(OVERVIEW, window_of(*leaking()))
    layout = lay_out(table, table.order().tolist(), width)
    names = [column.name for column in layout.columns]
    assert "finding" in names
    assert ("growth_bytes_per_hour" in names) == growth
    assert all(len(line) == width for line in layout.rows)


def test_caches_are_indented_below_their_part_of_memory() -> None:
    table = Table(OVERVIEW, window_of(*leaking()))
    layout = lay_out(table, table.order().tolist(), 80)
    (line,) = [line for line in layout.rows if "task_struct" in line]
    assert line.startswith("  task_struct")
    assert "task_struct" in table.values("what").tolist()


def test_what_needs_attention_is_coloured() -> None:
    def colours(line: Strip) -> set[str]:
        return {s.style.color.name for s in line if s.style and s.style.color}

    async def work(terminal: Terminal) -> None:
        grid, where = terminal.app.grid, terminal.app.screen.query_one("#where")
        rows = {line.text.split("  ")[0]: line for line in map(grid.render_line, range(1, 8))}
        assert colours(rows["slab, unreclaimable"]) == {"yellow"}
        assert colours(rows["leaks"]) == set()
        assert where.has_class("warn")
        assert str(where.styles.color.ansi) == "3", "the terminal's own yellow"
        terminal.app.show_view("caches")
        await terminal.read()
        assert not where.has_class("warn")

    on_terminal(work, Script(old_leak(10.0)), (140, 24), BEGIN)
