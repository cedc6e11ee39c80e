# SPDX-License-Identifier: Apache-2.0
"""Keep BPF programs and maps alive across daemon restarts.

A Continuity adopts the session that the previous process left, and stores its own for the next:
the kernel objects in a DescriptorKeeper, what only the process knows in a state record.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slabmon.kernel.loading.loader import Programs, map_names
from slabmon.kernel.planning.plan import Plan
from slabmon.kernel.probe.facts import Facts
from slabmon.kernel.programs import ALLOCATION_EVENTS
from slabmon.kernel.session_state import SessionState
from slabmon.model import FeatureState, State
from slabmon.runtime.systemd import Notifier
from slabmon.state.descriptor_store import DescriptorKeeper, KeepError, Pins, SystemdStore
from slabmon.state.fingerprint import differences, fingerprint
from slabmon.state.record_map import RecordTooLarge, StateRecord, create_map
from slabmon.state.settings import StateSettings

log = logging.getLogger(__name__)
RECORD = "map-slabmon_state"


def find_continuity(
    settings: StateSettings, notifier: Notifier, passed: Sequence[tuple[str, int]]
) -> Continuity | None:
    """Return the continuity of this host's daemon, or None if the settings switch it off.

    What an earlier daemon left is then discarded. `passed` are the names and descriptors that the
    service manager passed.
    """
    store, pins = SystemdStore(notifier, passed), Pins(Path(settings.pin_directory))
    keeper: DescriptorKeeper = store if notifier else pins
    if settings.keep:
        return Continuity(keeper)
    objects = keeper.take()
    for descriptor in objects.values():
        os.close(descriptor)
    keeper.forget(objects)
    keeper.finish()
    return None


class _NotAdopted(Exception):
    """Raised if the session of an earlier process cannot be used; the message says why."""


class Continuity:
    """One session's state across restarts of the daemon: a Checkpoint of slabmon.kernel.

    `found` says whether an earlier process left anything, `feature` how the session is kept or why
    it is not.
    """

    def __init__(self, keeper: DescriptorKeeper) -> None:
        self._keeper = keeper
        self._objects = keeper.take()
        self._record: StateRecord | None = None
        self._document: dict[str, Any] = {}
        self._active = False  # what is written now belongs to a session that is kept
        self.found = bool(self._objects)
        # What is kept stays if this process fails: always what an earlier one left.
        self._outlasts = self.found
        self.feature = FeatureState(State.ON, f"kept in {keeper.where}")

    def adopt(self, facts: Facts, plan: Plan) -> tuple[Programs, SessionState] | None:
        """Return the programs and the state an earlier process left.

        Return None if there are none or they are not those that the plan would load; they are
        discarded then.
        """
        expected = fingerprint(facts, plan)
        self._document = {"fingerprint": expected}
        if not self.found:
            return None
        try:
            saved = self._saved(expected, plan)
        except _NotAdopted as reason:
            log.warning(
                "counters start again: what an earlier daemon left in %s is not used, because %s",
                self._keeper.where,
                reason,
            )
            self._discard()
            return None
        log.info(
            "counters continue: adopted %d kernel objects from %s",
            len(self._objects),
            self._keeper.where,
        )
        kinds: dict[str, dict[str, int]] = {"map": {}, "program": {}, "link": {}}
        for label, descriptor in self._objects.items():
            if label != RECORD:
                kind, _, name = label.partition("-")
                kinds[kind][name] = descriptor
        programs = Programs(
            kinds["map"], kinds["program"], self._document["instructions"], kinds["link"]
        )
        return programs, saved

    def _saved(self, expected: dict[str, Any], plan: Plan) -> SessionState:
        """Read and check the state record. Raises _NotAdopted."""
        if RECORD not in self._objects:
            raise _NotAdopted("it is incomplete: there is no state record")
        record = StateRecord(self._objects[RECORD])
        document = record.read()
        if document is None:
            raise _NotAdopted("its state record was never completely written")
        different = differences(document.get("fingerprint", {}), expected)
        if different:
            raise _NotAdopted("; ".join(different))
        if "instructions" not in document:
            raise _NotAdopted("its state record is damaged")
        names = [f"map-{name}" for name in map_names(plan)]
        # Programs that were loaded: the kernel may have refused optional ones.
        names += [f"program-{name}" for name in document["instructions"]]
        try:
            saved = SessionState.parse(document.get("session"))
        except ValueError as error:
            raise _NotAdopted(f"its state record is damaged ({error})") from error
        if saved.pauses.began is None:
            names += [f"link-{event}" for event in sorted(plan.attach.keys() & ALLOCATION_EVENTS)]
        missing = [name for name in names if name not in self._objects]
        if missing:
            raise _NotAdopted(f"it is incomplete: {', '.join(missing[:3])} missing")
        self._record, self._document, self._active = record, document, True
        return saved

    def _discard(self) -> None:
        for descriptor in self._objects.values():
            os.close(descriptor)
        self._keeper.forget(self._objects)
        self._objects = {}
        self._outlasts = False

    def begin(self, programs: Programs, state: SessionState) -> None:
        """Keep this session, which is complete and counting, from now on."""
        adopted = set(self._objects)
        try:
            if self._record is None:
                self._objects[RECORD] = create_map()
                self._record = StateRecord(self._objects[RECORD])
                self._document["instructions"] = programs.instructions
            self._objects |= programs.objects()
            self._active = True
            self.save(state)
            self._keeper.keep({n: fd for n, fd in self._objects.items() if n not in adopted})
        except (KeepError, OSError) as error:
            self._give_up(str(error))

    def _give_up(self, reason: str) -> None:
        """Discard everything: no state is better than one that is out of date."""
        self._active = self._outlasts = False
        self._keeper.forget(self._objects)
        self._keeper.finish()
        self.feature = FeatureState(
            State.DEGRADED, f"a restart or crash starts the counters again: {reason}"
        )
        log.warning("state is not kept: %s", reason)

    def update(self, programs: Programs) -> None:
        """Keep what is attached now, and no more: an attachment lasts as long as it is kept."""
        if not self._active:
            return
        current = {**programs.objects(), RECORD: self._objects[RECORD]}
        self._keeper.forget(self._objects.keys() - current.keys())
        new = {name: fd for name, fd in current.items() if name not in self._objects}
        self._objects = current
        try:
            self._keeper.keep(new)
        except KeepError as error:
            self._give_up(str(error))

    def save(self, state: SessionState) -> None:
        """Write the state that a later process needs into the record."""
        if self._record is None or not self._active:
            return
        for part in (state, state.without_locations()):
            try:
                self._record.write({**self._document, "session": part.document()})
                return
            except RecordTooLarge as error:
                reason = f"the state record is full: {error}"
                if self.feature.state == State.ON:
                    log.warning("%s; names of call sites in unloaded modules are not kept", reason)
                self.feature = FeatureState(State.DEGRADED, reason)
        self._give_up(reason)

    def outlast(self) -> None:
        """Keep the session even if this process fails, from now on: its start has succeeded."""
        self._outlasts = self._active

    def close(self, requested: bool) -> None:
        """End the session. `requested` says that the daemon was asked to stop and did not fail.

        Then nothing is kept, unless a service manager decides. Nothing of its own is kept either
        by a process whose start has failed.
        """
        if not requested and not self._outlasts:
            self._keeper.forget(self._objects)
        if requested or not self._outlasts:
            self._keeper.finish()
        if self._record is not None:
            os.close(self._objects[RECORD])
