# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.scenarios FIRST-LAST [SUITE] [NAME]`: runs scenarios with these seeds and prints
what came of each; of held-out seeds, and without a name, the figures go into docs/verdicts.md. Of
the suites, `all` is the default, `fast` those of minutes, and `auto` all again with tracking that
sleeps until something grows."""

from __future__ import annotations

import os
import sys
from multiprocessing import Pool

from tests.scenarios import report
from tests.scenarios.catalogue import AUTO, ENTRIES, FAST, UNDECIDABLE
from tests.scenarios.report import Suite
from tests.scenarios.score import Outcome, run
from tests.scenarios.seeds import HELD_OUT, chosen

ALL = (*ENTRIES, *FAST, *UNDECIDABLE)


ENTRIES_OF = {Suite.ALL: ENTRIES, Suite.FAST: (*FAST, *UNDECIDABLE), Suite.AUTO: AUTO}


def _one(job: tuple[int, int, bool]) -> Outcome:
    number, seed, sleeps = job
    return run(ALL[number], seed, sleeps=sleeps)


def main(seeds: str, suite_name: str = Suite.ALL, name: str = "") -> int:
    """Runs all jobs, one process per CPU."""
    drawn, suite = chosen(seeds), Suite(suite_name)
    numbers = [ALL.index(entry) for entry in ENTRIES_OF[suite] if name in entry.name]
    jobs = [(i, seed, suite == Suite.AUTO) for seed in drawn for i in numbers]
    outcomes = []
    with Pool(os.cpu_count()) as pool:
        for outcome in pool.imap(_one, jobs):
            outcomes.append(outcome)
            sys.stderr.write(
                f"{len(outcomes)}/{len(jobs)} {outcome.entry.name}, seed "
                f"{outcome.seed}: {[*outcome.hits, *outcome.alarms]}\n"
            )
    wording = f"{drawn[0]} to {drawn[-1]}"
    if not name and drawn[0] in HELD_OUT:
        report.write(outcomes, wording, suite)
    sys.stdout.write(report.figures(outcomes, wording))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
