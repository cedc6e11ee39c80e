# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.scenarios FIRST-LAST [NAME]`: runs scenarios with these seeds and prints what
came of each; of held-out seeds, and without a name, the figures go into docs/verdicts.md. The name
`fast` stands for the scenarios of minutes, which have figures of their own."""

from __future__ import annotations

import os
import sys
from multiprocessing import Pool

from tests.scenarios import report
from tests.scenarios.catalogue import ENTRIES, FAST, UNDECIDABLE
from tests.scenarios.score import Outcome, run
from tests.scenarios.seeds import HELD_OUT, chosen

ALL = (*ENTRIES, *FAST, *UNDECIDABLE)


def _one(job: tuple[int, int]) -> Outcome:
    return run(ALL[job[0]], job[1])


def main(seeds: str, name: str = "") -> int:
    """Runs all jobs, one process per CPU."""
    drawn = chosen(seeds)
    entries = (*FAST, *UNDECIDABLE) if name == "fast" else ENTRIES
    numbers = [
        i
        for i, entry in enumerate(ALL)
        if entry in entries and (name == "fast" or name in entry.name)
    ]
    jobs = [(i, seed) for seed in drawn for i in numbers]
    outcomes = []
    with Pool(os.cpu_count()) as pool:
        for outcome in pool.imap(_one, jobs):
            outcomes.append(outcome)
            sys.stderr.write(
                f"{len(outcomes)}/{len(jobs)} {outcome.entry.name}, seed "
                f"{outcome.seed}: {[*outcome.hits, *outcome.alarms]}\n"
            )
    wording = f"{drawn[0]} to {drawn[-1]}"
    if name in ("", "fast") and drawn[0] in HELD_OUT:
        report.write(outcomes, wording, fast=name == "fast")
    sys.stdout.write(report.figures(outcomes, wording))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
