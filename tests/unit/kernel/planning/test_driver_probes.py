# SPDX-License-Identifier: Apache-2.0
"""Drivers' probes are followed where the kernel lets programs be attached to functions."""

from __future__ import annotations

from typing import Any

import pytest

from slabmon.kernel.planning.driver_probes import plan_driver_probes, probes_refused
from slabmon.kernel.planning.part import Hook
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.probe.btf import Function
from slabmon.kernel.settings import Settings
from slabmon.model import State
from tests.support.hosts import FUNCTIONS, KERNELS, facts

HOOKS = {
    "on_driver_probe": Hook("really_probe", 104, "fentry"),
    "on_driver_probe_end": Hook("really_probe", 104, "fexit"),
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_both_ends_are_watched_on_each_kernel(kernel: str) -> None:
    """Those without a recursion guard, too: these programs cannot run inside themselves."""
    part = plan_driver_probes(facts(kernel))
    assert part.hooks == HOOKS
    assert part.defines == {"HAVE_DRIVER_PROBES": 1}
    assert part.features["driver_probes"].state == State.ON
    assert part.hooks.items() <= make_plan(facts(kernel), Settings()).hooks.items()


def off(**changes: Any) -> str:
    """Return why they are not watched."""
    part = plan_driver_probes(facts(**changes))
    assert (part.hooks, part.defines) == ({}, {"HAVE_DRIVER_PROBES": 0})
    assert part.features["driver_probes"].state == State.OFF
    return part.features["driver_probes"].reason


def test_a_kernel_that_refuses_is_quoted() -> None:
    assert "Operation not permitted" in off(fentry_refused="Operation not permitted")


def test_an_unexpected_function_is_left_alone() -> None:
    functions = dict(FUNCTIONS["6.18"])
    del functions["really_probe"]
    assert "really_probe" in off(functions=functions)
    odd = Function(104, "int", ("struct device_driver *", "struct device *"))
    assert "really_probe" in off(functions={**functions, "really_probe": odd})


def test_devices_that_cannot_be_named_are_not_followed() -> None:
    offsets = {n: o for n, o in facts().offsets.items() if n != "OFF_DRIVER_NAME"}
    assert "really_probe" in off(offsets=offsets)


def test_what_is_refused_later_is_off() -> None:
    reason = {"on_driver_probe_end": "cannot attach: busy", "on_driver_probe": "as well"}
    assert "busy" in probes_refused(reason)["driver_probes"].reason
    assert not probes_refused({"on_bulk_free": "cannot attach: busy"})
