# SPDX-License-Identifier: Apache-2.0
"""Of what a census can be asked what only it leads to."""

from __future__ import annotations

from enum import StrEnum


class RetainedBy(StrEnum):
    """Of what a census finds the objects that nothing else leads to."""

    DEVICE = "device"
    MODULE = "module"
    CGROUP = "cgroup"
    PROCESS = "process"
