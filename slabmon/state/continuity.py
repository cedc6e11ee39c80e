# SPDX-License-Identifier: Apache-2.0
"""Counting that goes on while the daemon does not: adopting what an earlier process left, and
leaving what a later one can adopt."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slabmon.kernel.loading.loader import Programs, map_names
from slabmon.kernel.planning.plan import ALLOCATION_EVENTS, Plan
from slabmon.kernel.probe.facts import Facts
from slabmon.kernel.session_state import Memory
from slabmon.model import FeatureState, State
from slabmon.runtime.systemd import Notifier
from slabmon.state.descriptor_store import DescriptorStore, Keeper, KeepError, Pins
from slabmon.state.fingerprint import differences, fingerprint
from slabmon.state.record_map import Record, RecordTooLarge, create_map
from slabmon.state.settings import StateSettings

log = logging.getLogger(__name__)
RECORD = "map-slabmon_state"


def find_continuity(
    settings: StateSettings, notifier: Notifier, passed: Sequence[tuple[str, int]]
) -> Continuity | None:
    """The state of this host's daemon; None where none is to be kept, and what there was is given
    up. `passed`: names and descriptors from the service manager."""
    store, pins = DescriptorStore(notifier, passed), Pins(Path(settings.pin_directory))
    keeper: Keeper = store if notifier else pins
    if settings.keep:
        return Continuity(keeper)
    left = keeper.take()
    for descriptor in left.values():
        os.close(descriptor)
    keeper.forget(left)
    keeper.finish()
    return None


class Continuity:
    """One session's state over restarts of the daemon.

    `found`: whether an earlier process left something. `memory`: what it knew, once adopt() took
    its programs over. `feature` tells how the state is kept, or why it is not.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._objects = keeper.take()
        self._record: Record | None = None
        self._document: dict[str, Any] = {}
        self._kept = False
        self.found = bool(self._objects)
        self.memory: Memory | None = None
        self.feature = FeatureState(State.ON, f"kept in {keeper.where}")

    def adopt(self, facts: Facts, plan: Plan) -> Programs | None:
        """The programs an earlier process left, where they are what this one would load."""
        wanted = fingerprint(facts, plan)
        self._document = {"fingerprint": wanted}
        if not self.found:
            return None
        reason = self._refusal(wanted, plan)
        if reason:
            log.warning(
                "counters start again: what an earlier daemon left in %s is not used, because %s",
                self._keeper.where,
                reason,
            )
            self._discard()
            return None
        assert self.memory is not None
        log.info(
            "counting goes on: adopted %d kernel objects from %s",
            len(self._objects),
            self._keeper.where,
        )
        kinds: dict[str, dict[str, int]] = {"map": {}, "program": {}, "link": {}}
        for name, descriptor in self._objects.items():
            kind, _, own = name.partition("-")
            if name != RECORD:
                kinds[kind][own] = descriptor
        return Programs(
            kinds["map"], kinds["program"], self._document["instructions"], kinds["link"]
        )

    def _refusal(self, wanted: dict[str, Any], plan: Plan) -> str:
        """Why what was left cannot be adopted; "" when it can, and then `memory` is set."""
        if RECORD not in self._objects:
            return "it is incomplete: there is no state record"
        self._record = Record(self._objects[RECORD])
        document = self._record.read()
        if document is None:
            return "its state record was never written whole"
        different = differences(document.get("fingerprint", {}), wanted)
        if different or "instructions" not in document:
            return "; ".join(different) or "its state record is damaged"
        expected = [f"map-{name}" for name in map_names(plan)]
        # Those that were loaded: the kernel may have refused some that are an extra.
        expected += [f"program-{name}" for name in document["instructions"]]
        expected += [f"link-{name}" for name in sorted(plan.attach.keys() & ALLOCATION_EVENTS)]
        missing = [name for name in expected if name not in self._objects]
        if missing:
            return f"it is incomplete: {', '.join(missing[:3])} missing"
        try:
            self.memory = Memory.parse(document.get("memory"))
        except ValueError as error:
            return f"its state record is damaged ({error})"
        self._document = document
        self._kept = True
        return ""

    def _discard(self) -> None:
        self._record = None
        for descriptor in self._objects.values():
            os.close(descriptor)
        self._keeper.forget(self._objects)
        self._objects = {}

    def begin(self, programs: Programs, memory: Memory) -> None:
        """The session counts: from here on it is kept."""
        adopted = set(self._objects)
        try:
            if self._record is None:
                self._objects[RECORD] = create_map()
                self._record = Record(self._objects[RECORD])
                self._document["instructions"] = programs.instructions
            self._objects |= programs.objects()
            self._kept = True
            self.save(memory)
            self._keeper.keep({n: fd for n, fd in self._objects.items() if n not in adopted})
        except (KeepError, OSError) as error:
            self._give_up(str(error))

    def _give_up(self, reason: str) -> None:
        """Better no state than one that is out of date."""
        self._kept = False
        self._keeper.forget(self._objects)
        self._keeper.finish()
        self.feature = FeatureState(
            State.DEGRADED, f"a restart or crash starts the counters again: {reason}"
        )
        log.warning("state is not kept: %s", reason)

    def update(self, programs: Programs) -> None:
        """Keeps what is attached now, and no longer what is not: a kept attachment lasts."""
        if not self._kept:
            return
        now = {**programs.objects(), RECORD: self._objects[RECORD]}
        self._keeper.forget(self._objects.keys() - now.keys())
        new = {name: fd for name, fd in now.items() if name not in self._objects}
        self._objects = now
        try:
            self._keeper.keep(new)
        except KeepError as error:
            self._give_up(str(error))

    def save(self, memory: Memory) -> None:
        """Writes down what a later process has to know."""
        if self._record is None or not self._kept:
            return
        for part in (memory, memory.without_places()):
            try:
                self._record.write({**self._document, "memory": part.document()})
                return
            except RecordTooLarge as error:
                reason = f"the state record is full: {error}"
                if self.feature.state == State.ON:
                    log.warning("%s; names of call sites in unloaded modules are not kept", reason)
                self.feature = FeatureState(State.DEGRADED, reason)
        self._give_up(reason)

    def close(self, wanted: bool) -> None:
        """`wanted`: the daemon was asked to end, as opposed to failing: then nothing stays, unless
        a service manager decides."""
        if wanted or not self._kept:
            self._keeper.finish()
        if self._record is not None:
            os.close(self._objects[RECORD])
