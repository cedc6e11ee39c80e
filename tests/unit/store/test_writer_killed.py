# SPDX-License-Identifier: Apache-2.0
"""A writer killed at any moment loses at most the snapshot it was writing."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from slabmon.base.errors import UsageError
from slabmon.store.recording import Recording
from tests.support.recordings import START, moment
from tests.support.snapshots import assert_same

WRITER = """
import sys
from pathlib import Path
from slabmon.store.writer import (RecordingWriter, Retention)
from tests.support.recordings import (START, moment)

print("opens", flush=True)
with RecordingWriter(Path(sys.argv[1]), Retention(seconds=1e9, bytes=1 << 28)) as history:
    for number in range(int(sys.argv[2]), 100_000):
        history.append(moment(number), START + number)
        print(number, flush=True)
"""
ROUNDS = 7


def killed_after(path: Path, first: int, lines: int, pause: float) -> int:
    """Runs the writer until it has said so many lines, and a little longer; returns the last
    number that it said was written."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    try:
        said = [writer.stdout.readline() for _ in range(lines)]
        time.sleep(pause)
    finally:
        writer.kill()
    said += writer.stdout.readlines()
    writer.stdout.close()
    assert writer.wait(60) == -9
    numbers = [int(line) for line in said if line.strip().isdigit()]
    return numbers[-1] if numbers else first - 1


def test_a_killed_writer_loses_at_most_what_it_was_writing(
    tmp_path: Path, rng: random.Random
) -> None:
    path = tmp_path / "slabs.db"
    written = -1
    for round_ in range(ROUNDS):
        # The first rounds end while the file is being made.
        lines = 1 if round_ < 3 else rng.randrange(1, 120)
        said = killed_after(path, written + 1, lines, rng.random() * 0.02)
        try:
            found = Recording(path)
        except UsageError:
            # There may be no recording yet: what there is must do for the next writer.
            assert said < 0
            continue
        with found:
            numbers = [round(time - START) for time in found.times()]
            assert len(numbers) - 1 in (said, said + 1)
            assert numbers == list(range(len(numbers)))
            for number, (_, snapshot) in enumerate(found.between()):
                if number > written:
                    assert_same(snapshot, moment(number))
        written = len(numbers) - 1
    assert written > 0
