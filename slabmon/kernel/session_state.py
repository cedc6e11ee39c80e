# SPDX-License-Identifier: Apache-2.0
"""What a session knows that is not in the kernel's tables, as a JSON document and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from slabmon.kernel.devres import ledger as devices
from slabmon.kernel.devres.walker import Names
from slabmon.kernel.symbols import kallsyms as symbols
from slabmon.kernel.symbols.kallsyms import Location


@dataclass(frozen=True)
class Memory:
    """`since`: Unix time tracking began, `started`: CLOCK_MONOTONIC then. `events_taken`: position
    in the event buffer up to which everything is taken in. `locations`: call sites in modules, by
    address and module generation, whose symbols may be gone. `caches` as CacheDirectory.names()."""

    since: float
    started: float
    events_taken: int
    modules: symbols.History
    locations: Mapping[tuple[int, int], Location]
    caches: tuple[tuple[int, str, bool], ...]
    ledger: devices.History

    def without_places(self) -> Memory:
        """The same without call sites, the only part that has no small bound."""
        return replace(self, locations={})

    def document(self) -> dict[str, Any]:
        """For json.dumps()."""
        return {
            "since": self.since,
            "started": self.started,
            "events_taken": self.events_taken,
            "modules": self.modules,
            "locations": [(*key, *place) for key, place in self.locations.items()],
            "caches": self.caches,
            "ledger": self.ledger,
        }

    @classmethod
    def parse(cls, document: Any) -> Memory:
        """Back from JSON; ValueError when it is anything but what document() gives."""
        try:
            modules, confirmed = document["modules"]
            ledger, disagreements, failed_walks = document["ledger"]
            return cls(
                since=float(document["since"]),
                started=float(document["started"]),
                events_taken=_count(document["events_taken"]),
                modules=symbols.History(
                    tuple(
                        (
                            _text(name),
                            [(_count(a), _count(b)) for a, b in ranges],
                            _count(first),
                            _count(last),
                        )
                        for name, ranges, first, last in modules
                    ),
                    _count(confirmed),
                ),
                locations={
                    (_count(address), _count(generation)): Location(
                        _text(symbol), _count(offset), _text(module)
                    )
                    for address, generation, symbol, offset, module in document["locations"]
                },
                caches=tuple(
                    (_count(key), _text(name), holds is True)
                    for key, name, holds in document["caches"]
                ),
                ledger=devices.History(
                    tuple(
                        (
                            Names(_text(bus), _text(name), _optional(driver), _optional(module)),
                            _count(added),
                            _count(removed),
                        )
                        for (bus, name, driver, module), added, removed in ledger
                    ),
                    _count(disagreements),
                    _count(failed_walks),
                ),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a state document: {error!r}") from error


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError(f"not a count: {value!r}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"not text: {value!r}")
    return value


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)
