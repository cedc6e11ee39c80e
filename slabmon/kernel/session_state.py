# SPDX-License-Identifier: Apache-2.0
"""State of a tracking session beyond the kernel's tables, and the interface to its storage.

The next process that adopts the session's programs and maps needs it to continue the counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from slabmon.kernel.devres.ledger import LedgerState
from slabmon.kernel.devres.walker import DeviceIdentity
from slabmon.kernel.symbols.kallsyms import Location, ModuleHistory

if TYPE_CHECKING:
    from slabmon.kernel.loading.loader import Programs
    from slabmon.kernel.planning.plan import Plan
    from slabmon.kernel.probe.facts import Facts
    from slabmon.model import FeatureState


@dataclass(frozen=True, kw_only=True)
class Pauses:
    """The times in which no allocation event was counted.

    `seconds` is the sum of those that ended, `began` when the present one did (CLOCK_MONOTONIC;
    None: events are counted). Tracking woke `wakes` times, last because of `reason`; `net` holds,
    by cache, allocations minus frees counted until then.
    """

    seconds: float = 0.0
    began: float | None = None
    wakes: int = 0
    reason: str = ""
    net: Mapping[str, int] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return them as an object for json.dumps()."""
        return asdict(self)

    @classmethod
    def parse(cls, document: Any) -> Pauses:
        """Return the pauses of a parsed document; none if it is None."""
        if document is None:
            return cls()
        return cls(
            seconds=float(document["seconds"]),
            began=_seconds(document["began"]),
            wakes=_count(document["wakes"]),
            reason=_text(document["reason"]),
            net={_text(name): int(net) for name, net in document["net"].items()},
        )


@dataclass(frozen=True, kw_only=True)
class SessionState:
    """State of one session, as a JSON document and back.

    `since` is the Unix time tracking began, `started` CLOCK_MONOTONIC then, in seconds. `pauses`
    is for how long counters stood still, and where they stood.
    `suspended_before` is for how many seconds the host had been suspended then (None: not known).
    `events_taken` is the position in the event buffer up to which all records are applied.
    `locations` are call sites in modules, by address and module generation: the symbols may be
    gone. `caches` is the result of CacheDirectory.names().
    """

    since: float
    started: float
    events_taken: int
    modules: ModuleHistory
    locations: Mapping[tuple[int, int], Location]
    caches: tuple[tuple[int, str, bool], ...]
    ledger: LedgerState
    suspended_before: float | None = None
    pauses: Pauses = Pauses()

    def without_locations(self) -> SessionState:
        """Return a copy without call sites, the only part without a small bound."""
        return replace(self, locations={})

    def document(self) -> dict[str, Any]:
        """Return the state as an object for json.dumps()."""
        return {
            "since": self.since,
            "started": self.started,
            "suspended_before": self.suspended_before,
            "pauses": self.pauses.document(),
            "events_taken": self.events_taken,
            "modules": self.modules,
            "locations": [(*key, *location) for key, location in self.locations.items()],
            "caches": self.caches,
            "ledger": self.ledger,
        }

    @classmethod
    def parse(cls, document: Any) -> SessionState:
        """Return the state of a parsed document. Raises ValueError if it is not one."""
        try:
            return cls(
                since=float(document["since"]),
                started=float(document["started"]),
                suspended_before=_seconds(document.get("suspended_before")),
                pauses=Pauses.parse(document.get("pauses")),
                events_taken=_count(document["events_taken"]),
                modules=_modules(document["modules"]),
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
                ledger=_ledger(document["ledger"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a state document: {error!r}") from error


class Checkpoint(Protocol):
    """Storage of a session while no process runs it. slabmon.state.continuity implements it.

    `found` says whether an earlier process left anything, `feature` how the session is kept or
    why it is not.
    """

    found: bool
    feature: FeatureState

    def adopt(self, facts: Facts, plan: Plan) -> tuple[Programs, SessionState] | None:
        """Return the earlier session if its programs are those of the plan, else None."""

    def begin(self, programs: Programs, state: SessionState) -> None:
        """Start keeping a session that is complete and counting."""

    def save(self, state: SessionState) -> None:
        """Replace the stored state."""

    def update(self, programs: Programs) -> None:
        """Follow a change of attachments."""


def _seconds(document: Any) -> float | None:
    return None if document is None else float(document)


def _modules(document: Any) -> ModuleHistory:
    modules, confirmed = document
    return ModuleHistory(
        modules=tuple(
            (
                _text(name),
                [(_count(start), _count(end)) for start, end in ranges],
                _count(first),
                _count(last),
            )
            for name, ranges, first, last in modules
        ),
        confirmed=_count(confirmed),
    )


def _ledger(document: Any) -> LedgerState:
    devices, disagreements, failed_walks = document
    return LedgerState(
        devices=tuple(
            (
                DeviceIdentity(_text(bus), _text(name), _optional(driver), _optional(module)),
                _count(added),
                _count(removed),
            )
            for (bus, name, driver, module), added, removed in devices
        ),
        disagreements=_count(disagreements),
        failed_walks=_count(failed_walks),
    )


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
