# SPDX-License-Identifier: Apache-2.0
"""The latest levels of evidence: descriptors that processes have open, OOM kills of cgroups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from slabmon.leaks.finding import Kind
from slabmon.leaks.holders import process_key
from slabmon.leaks.series import Subject
from slabmon.model import Snapshot

# So many successive readings may lack a subject before it has ended.
GAP = 3


class EvidenceLevels:
    """The level of each subject, by the last reading that has it.

    A reading can lack what is still there: a process that is not among those that hold most, a file
    that could not be read. The level stays over a gap of up to GAP readings, since a fall would
    make the return look like growth. So there are at most as many subjects as GAP + 1 readings
    have, beside those to begin with.
    """

    def __init__(self, levels: Mapping[Subject, float]) -> None:
        """Begin with these levels."""
        self.levels = dict(levels)
        self._missing: dict[Subject, int] = {}

    def add(self, snapshot: Snapshot) -> list[Subject]:
        """Take the next reading. Return the subjects that have ended with it: they have no level
        any more, and begin anew if they return."""
        read = dict(_read(snapshot))
        running = {str(each.tgid): process_key(each) for each in snapshot.processes or ()}
        missing = {
            subject: self._missing.get(subject, 0) + 1
            for subject in self.levels
            if subject not in read
        }
        ended = [
            subject
            for subject, readings in missing.items()
            if readings > GAP or _has_ended(subject, running)
        ]
        self.levels |= read
        for subject in ended:
            del self.levels[subject], missing[subject]
        self._missing = missing
        return ended


def _read(snapshot: Snapshot) -> Iterator[tuple[Subject, float]]:
    """Yield the level of each subject in a reading."""
    for process in snapshot.processes or ():
        if process.descriptors is not None and process.started_ns is not None:
            yield (Kind.DESCRIPTORS, process_key(process)), float(process.descriptors)
    for path, kills in snapshot.oom_kills.items():
        yield (Kind.OOM_KILLS, path), float(kills)


def _has_ended(subject: Subject, running: Mapping[str, str]) -> bool:
    """Whether a subject is a process whose number is no process's now, or another's. `running` are
    the keys of processes by number."""
    kind, key = subject
    number = str(key).partition("@")[0]
    return kind == Kind.DESCRIPTORS and running.get(number, key) != key
