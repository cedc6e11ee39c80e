# SPDX-License-Identifier: Apache-2.0
"""What orphans are: rows of them by cache, and by what their words say."""

from __future__ import annotations

from slabmon.census.model import OrphanObjects, OwnedObjects
from slabmon.kernel.census import heap_subjects, owners
from slabmon.kernel.census.cache_types import Aliases
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.orphans import Orphans
from slabmon.kernel.census.symbols import Symbols
from slabmon.kernel.census.types import Types

_MOST_BYTES = 8 << 20  # of one cache's orphans that are looked into, at random


def rows(
    memory: Memory, orphans: Orphans, types: Types, aliases: Aliases, symbols: Symbols
) -> tuple[OrphanObjects, ...]:
    """Return rows of orphans, largest first."""
    if not len(orphans.numbers):
        return ()
    subjects = heap_subjects.choose(
        memory, orphans.reading, orphans.heap, orphans.numbers, _MOST_BYTES
    )
    kinds = heap_subjects.kinds(memory, orphans.reading, subjects, types, aliases, symbols)
    owned = owners.subject_rows(orphans.reading, kinds)
    return tuple(sorted(map(_row, owned), key=lambda row: (-row.bytes, row.cache, row.signature)))


def _row(owned: OwnedObjects) -> OrphanObjects:
    return OrphanObjects(
        cache=owned.cache,
        type=owned.type,
        module=owned.module,
        signature=owned.signature,
        objects=owned.objects,
        bytes=owned.bytes,
    )
