"""`python -m tests.scenarios SEEDS [NAME]`: runs scenarios and prints what came of each."""

from __future__ import annotations

import sys
from multiprocessing import Pool

from tests.scenarios.catalogue import ENTRIES
from tests.scenarios.score import Outcome, Score, run


def _one(job: tuple[int, int]) -> Outcome:
    return run(ENTRIES[job[0]], job[1])


def show(outcome: Outcome) -> None:
    """Prints one outcome."""
    sys.stdout.write(
        f"{outcome.entry.name:22} {outcome.seed:3} {'LEAK' if outcome.leaks else '    '} "
        f"delay {outcome.delay} hits {list(outcome.hits)} covered {outcome.covered} "
        f"cpu {max(outcome.cpu) * 1e3:.0f} ms\n"
    )
    for suspect, (at, finding) in outcome.alarms.items():
        sys.stdout.write(f"    ALARM {at:.0f} {suspect} {finding.evidence_for}\n")
    if outcome.leaks and not outcome.hits:
        sys.stdout.write(f"    MISSED; dismissed: {outcome.dismissed}\n")
    sys.stdout.flush()


def main(seeds: str, name: str = "") -> int:
    first, last = (int(part) for part in seeds.split("-"))
    numbers = [i for i, entry in enumerate(ENTRIES) if name in entry.name]
    jobs = [(i, seed) for seed in range(first, last + 1) for i in numbers]
    total = []
    with Pool(2) as pool:
        for outcome in pool.imap(_one, jobs):
            total.append(outcome)
            show(outcome)
    score = Score.of(total)
    sys.stdout.write(f"{score} precision {score.precision:.3f} recall {score.recall:.3f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
