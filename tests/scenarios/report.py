# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/verdicts.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import numpy as np

from slabmon.base.format import duration
from tests.scenarios.catalogue import ENTRIES, FAST, UNDECIDABLE
from tests.scenarios.score import Outcome, Score
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "verdicts.md"


class Suite(StrEnum):
    """Which scenarios, and how they are watched."""

    ALL = "all"
    FAST = "fast"
    AUTO = "auto"


BORDERS = {
    Suite.ALL: ("<!-- figures: begin, made by `make verdicts` -->", "<!-- figures: end -->"),
    Suite.FAST: (
        "<!-- fast figures: begin, made by `make verdicts-fast` -->",
        "<!-- fast figures: end -->",
    ),
    Suite.AUTO: (
        "<!-- auto figures: begin, made by `make verdicts-auto` -->",
        "<!-- auto figures: end -->",
    ),
}


def figures(outcomes: Sequence[Outcome], seeds: str) -> str:
    """Tables and failures, as Markdown."""
    return "\n".join(_lines(outcomes, seeds)) + "\n"


def _lines(every: Sequence[Outcome], seeds: str) -> Iterable[str]:
    outcomes = [outcome for outcome in every if outcome.entry not in UNDECIDABLE]
    score = Score.of(outcomes)
    covered = [outcome.covered for outcome in outcomes if outcome.covered]
    alarms = "1 false alarm" if score.wrong == 1 else f"{score.wrong} false alarms"
    yield (
        f"Seeds {seeds}, {len(outcomes)} runs. Precision {score.precision:.3f} ({alarms}), "
        f"recall {score.recall:.3f} ({score.found} of {score.leaks} leaks)."
    )
    if covered:
        yield (
            f"The interval of the first right finding held the true growth in "
            f"{sum(first for first, *_ in covered)} of {len(covered)} runs, that of the last in "
            f"{sum(last for *_, last in covered)}."
        )
    slept = [outcome.awake for outcome in outcomes if outcome.awake < 1]
    if slept:
        quiet = [outcome.awake for outcome in outcomes if not outcome.leaks]
        yield (
            f"Tracking was awake for {np.mean([outcome.awake for outcome in outcomes]):.0%} of the "
            f"time, on hosts where nothing leaks for {np.mean(quiet):.0%}."
            if quiet
            else f"Tracking was awake for {np.mean(slept):.0%} of the time."
        )
    together = [outcome.as_one for outcome in outcomes if outcome.as_one is not None]
    if together:
        yield f"What leaks in lockstep was one finding in {sum(together)} of {len(together)} runs."
    yield from (
        "",
        "| leak | found | time to detect: median (longest) | what happens |",
        "|---|---|---|---|",
    )
    for entry in (*ENTRIES, *FAST):
        runs = [outcome for outcome in outcomes if outcome.entry.name == entry.name]
        if not runs or not runs[0].leaks:
            continue
        delays = [outcome.delay for outcome in runs if outcome.delay is not None]
        time = f"{duration(float(np.median(delays)))} ({duration(max(delays))})" if delays else "-"
        if entry.promised:
            kept = sum(delay <= entry.promised for delay in delays)
            time += f", {kept} of {len(runs)} within {duration(entry.promised)}"
        yield f"| {entry.name} | {len(delays)} of {len(runs)} | {time} | {entry.about} |"
    yield from ("", "| no leak | runs with a false alarm | what happens |", "|---|---|---|")
    for entry in (*ENTRIES, *FAST):
        runs = [outcome for outcome in outcomes if outcome.entry.name == entry.name]
        if runs and not runs[0].leaks:
            alarmed = sum(bool(outcome.alarms) for outcome in runs)
            yield f"| {entry.name} | {alarmed} of {len(runs)} | {entry.about} |"
    yield from ("", "Failures:", "")
    yield from _failures(outcomes) or ["none."]
    for entry in UNDECIDABLE:
        yield from _undecidable([outcome for outcome in every if outcome.entry == entry])


def _undecidable(outcomes: Sequence[Outcome]) -> Iterable[str]:
    if outcomes:
        named = [outcome.named_last for outcome in outcomes if outcome.alarms]
        first = [
            min(at for at, _ in outcome.alarms.values()) for outcome in outcomes if outcome.alarms
        ]
        stood = np.array(named) - np.array(first)
        yield ""
        yield (
            f"Not counted above is what nobody can tell in minutes. {outcomes[0].entry.name} "
            f"({outcomes[0].entry.about}) is named in {len(named)} of {len(outcomes)} runs, for "
            f"{duration(float(np.median(stood))) if named else '-'} in the median."
        )


def _failures(outcomes: Iterable[Outcome]) -> list[str]:
    found = []
    for outcome in outcomes:
        run = f"{outcome.entry.name}, seed {outcome.seed}"
        found += [
            f"- **false alarm** ({run}): {kind} `{name}`, {finding.strength}, after "
            f"{duration(at)}: {finding.evidence_for[0]}."
            for (kind, name), (at, finding) in outcome.alarms.items()
        ]
        if outcome.leaks and not outcome.hits:
            dismissed = "; ".join(f"{name}: {why}" for name, why in outcome.dismissed.items())
            found.append(f"- **missed** ({run}); dismissed at the end: {dismissed or 'nothing'}.")
    return found


def write(outcomes: Sequence[Outcome], seeds: str, suite: Suite) -> None:
    """Puts the figures into the page."""
    begin, end = BORDERS[suite]
    page = PAGE.read_text()
    before, after = page.split(begin)[0], page.split(end)[1]
    PAGE.write_text(f"{before}{begin}\n\n{figures(outcomes, seeds)}\n{end}{after}")
