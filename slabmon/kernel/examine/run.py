# SPDX-License-Identifier: Apache-2.0
"""Examines one suspect in another process."""

from __future__ import annotations

import msgspec

from slabmon.base.errors import SlabmonError
from slabmon.kernel.examine.child import Report, Task
from slabmon.runtime.worker import Worker

_MOST_BYTES = 1 << 20


class ExaminationProcess(Worker):
    """A process that examines one suspect: see Worker, then result()."""

    def __init__(self, task: Task) -> None:
        """Start it. Raises OSError if there is no room for another process."""
        super().__init__("slabmon.kernel.examine.child", [msgspec.json.encode(task).decode()])

    def receive(self) -> bool:
        """As Worker's; a process that sends more than it may is at its end, too."""
        return super().receive() or len(self.received) > _MOST_BYTES

    def result(self) -> Report:
        """Return what it reports. Raises SlabmonError if it ended early."""
        try:
            return msgspec.msgpack.decode(self.received, type=Report)
        except msgspec.MsgspecError as error:
            raise SlabmonError(f"its process ended early: {self.ending()}") from error
