# SPDX-License-Identifier: Apache-2.0
"""Which device's driver a task probes while it allocates, by host (bpf/probes.h)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from slabmon.kernel.planning.part import Part, hooks_of
from slabmon.kernel.probe.facts import Facts
from slabmon.kernel.programs import BY_NAME, PROBE_FUNCTION
from slabmon.model import FeatureState, State

_FEATURE = "driver_probes"
_PARAMETERS = ("struct device *", "struct device_driver *")
_OFFSETS = (
    "OFF_DEVICE_KOBJ",
    "OFF_DEVICE_BUS",
    "OFF_DEVICE_CLASS",
    "OFF_DEVICE_DRIVER",
    "OFF_KOBJECT_NAME",
    "OFF_BUS_NAME",
    "OFF_CLASS_NAME",
    "OFF_DRIVER_NAME",
    "OFF_DRIVER_OWNER",
)


def plan_driver_probes(facts: Facts) -> Part:
    """Plan to follow the probes of drivers. Their programs cannot run inside themselves: no
    recursion guard is needed."""
    reason = _unavailable(facts)
    state = FeatureState(State.ON, f"fentry and fexit of {PROBE_FUNCTION}()")
    return Part(
        features={_FEATURE: _off([reason]) if reason else state},
        hooks={} if reason else hooks_of(facts, (_FEATURE,)),
        defines={"HAVE_DRIVER_PROBES": int(not reason)},
    )


def probes_refused(reasons: Mapping[str, str]) -> dict[str, FeatureState]:
    """Return the feature as it changes because the kernel refused to attach these programs."""
    found = [reason for name, reason in reasons.items() if BY_NAME[name].feature == _FEATURE]
    return {_FEATURE: _off(found)} if found else {}


def _off(reasons: Iterable[str]) -> FeatureState:
    return FeatureState(
        State.OFF,
        f"{next(iter(reasons))}: of devices only managed memory (devres) is known, and what a "
        "census finds",
    )


def _unavailable(facts: Facts) -> str:
    """Return why they cannot be followed, or ""."""
    function = facts.functions.get(PROBE_FUNCTION)
    described = function is not None and function.parameters == _PARAMETERS
    if not described or not facts.offsets.keys() >= set(_OFFSETS):
        return f"BTF does not describe {PROBE_FUNCTION}() as expected"
    if facts.fentry_refused:
        return f"the kernel refuses fentry programs: {facts.fentry_refused}"
    return ""
