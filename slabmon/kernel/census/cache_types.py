# SPDX-License-Identifier: Apache-2.0
"""The structs that caches hold, by their names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from slabmon.base.names import is_kmalloc
from slabmon.kernel.census.members import Structs, spelled
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.types import Types

Aliases = Mapping[str, tuple[str, ...]]


class CacheTypes:
    """Which caches hold one kind of objects. `types` are the structs they are named after, and
    `candidates` those that merged ones can hold, all by row."""

    def __init__(self, read: Reading, types: Types, structs: Structs, aliases: Aliases) -> None:
        caches = read.slabs.caches
        sizes = caches.object_size.tolist()
        self.names = caches.name
        self.mixed = np.array([_mixed(name, aliases) for name in caches.name], bool)
        self.types: dict[int, int] = {}
        self.candidates: dict[int, list[int]] = {}
        names = {each for name in caches.name for each in (name, *aliases.get(name, ()))}
        spellings = [spelled(name) for name in names if not is_kmalloc(name)]
        types.open_modules(
            each for names in spellings if not any(map(types.find, names)) for each in names
        )
        for row, (name, size) in enumerate(zip(caches.name, sizes, strict=True)):
            if not self.mixed[row]:
                struct = structs.of_cache(name, size)
                if struct:
                    self.types[row] = struct
            elif aliases.get(name):
                known = (structs.of_cache(each, size, 64) for each in (name, *aliases[name]))
                self.candidates[row] = list(dict.fromkeys(filter(None, known)))


def _mixed(name: str, aliases: Aliases) -> bool:
    return is_kmalloc(name) or bool(aliases.get(name))
