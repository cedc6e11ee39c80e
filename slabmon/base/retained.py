# SPDX-License-Identifier: Apache-2.0
"""Kinds of what retains objects: nothing else leads to them. A census is asked for one of these."""

from __future__ import annotations

from enum import StrEnum


class RetainedBy(StrEnum):
    """Of what a census finds the objects that nothing else leads to."""

    DEVICE = "device"
    MODULE = "module"
    CGROUP = "cgroup"
    PROCESS = "process"
