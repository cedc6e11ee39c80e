# SPDX-License-Identifier: Apache-2.0
"""The kernel's table of driver probes: of which devices' probes objects are."""

from __future__ import annotations

import numpy as np

from slabmon.base.arrays import U32, Records, contained
from slabmon.kernel.bpf import maps
from slabmon.kernel.bpf.layout import CONSTANTS, DRIVER_PROBE
from slabmon.kernel.devres.walker import DeviceIdentity
from slabmon.kernel.loading.loader import DRIVER_PROBES, PROBING, Programs
from slabmon.kernel.planning.plan import Plan
from slabmon.kernel.probe.processes import exists, in_first_namespace


class ProbeTable:
    """The probes of one session. `control` is the record of settings that the programs read.

    Those that ended and that no tracked object is of make room for others.
    """

    def __init__(self, programs: Programs, plan: Plan, control: np.void) -> None:
        self._programs, self._control = programs, control
        self._used = bool(plan.defines["HAVE_DRIVER_PROBES"])
        self._begun = 0  # probes, when tasks in one were last looked at

    def ended(self) -> U32:
        """Return the numbers of probes that have ended, at least while no task is in one. Objects
        that are read after this are all that these probes allocated."""
        numbers, _ = self._read()
        return numbers[:0] if self._entered() else numbers

    def _entered(self) -> bool:
        """Return whether a task is in a probe. Those that died in one, as after an oops, have not
        left it, and never will: they are forgotten."""
        if not self._control["probing_tasks"] or not in_first_namespace():
            return bool(self._control["probing_tasks"])
        before, self._begun = self._begun, int(self._control["probes_begun"])
        tasks, numbers = (np.zeros(CONSTANTS["DRIVER_PROBES"], "<u4") for _ in range(2))
        tasks = tasks[: maps.read_hash(self._programs.maps[PROBING], tasks, numbers)]
        dead = [task for task in tasks.tolist() if not exists(task)]
        for task in dead:
            maps.delete(self._programs.maps[PROBING], np.array([task], "<u4"))
        # A task that enters a probe is counted before it has an entry.
        if len(dead) < len(tasks) or before != self._begun:
            return True
        # The end of a probe that begins right now makes it wrong again, until the next looks.
        self._control["probing_tasks"] = 0
        return False

    def devices(self, used: U32, ended: U32) -> dict[int, DeviceIdentity]:
        """Return the devices of the used probes by number, and forget ended ones that are not."""
        for number in ended[~contained(ended, used)].tolist():
            maps.delete(self._programs.maps[DRIVER_PROBES], np.array([number], "<u4"))
        numbers, records = self._read()
        wanted = contained(numbers, used)
        return {
            int(number): DeviceIdentity.of(record)
            for number, record in zip(numbers[wanted], records[wanted], strict=True)
        }

    def _read(self) -> tuple[U32, Records]:
        if not self._used or not self._control["probes_begun"]:
            return np.zeros(0, "<u4"), np.zeros(0, DRIVER_PROBE)
        numbers = np.zeros(CONSTANTS["DRIVER_PROBES"], "<u4")
        records = np.zeros(len(numbers), DRIVER_PROBE)
        count = maps.read_hash(self._programs.maps[DRIVER_PROBES], numbers, records)
        return numbers[:count], records[:count]
