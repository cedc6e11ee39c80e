# SPDX-License-Identifier: Apache-2.0
"""Which programs watch functions of the kernel, by what the host allows."""

from __future__ import annotations

from typing import Any

import pytest

from slabmon.kernel.loading.loader import map_names
from slabmon.kernel.planning.bulk_hooks import plan_bulk_hooks, refused
from slabmon.kernel.planning.part import Hook, Part
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.probe.btf import Function
from slabmon.kernel.programs import BY_NAME
from slabmon.kernel.settings import Settings
from slabmon.model import State
from tests.support.hosts import FUNCTIONS, KERNELS, facts, without

INT, BOOL = 0xFFFFFFFF, 0xFF
FREE = Hook("kmem_cache_free_bulk", 102, "fentry")
SHEAF = Hook("__kfree_rcu_sheaf", 103, "fexit")
NOPROF = Hook("kmem_cache_alloc_bulk_noprof", 101, "fexit")
HOOKS = {
    "5.10": {},
    "6.0": {},
    "6.1": {"on_bulk_alloc": Hook("kmem_cache_alloc_bulk", 101, "fexit"), "on_bulk_free": FREE},
    "6.12": {"on_bulk_alloc": NOPROF, "on_bulk_free": FREE},
    "6.18": {"on_bulk_alloc": NOPROF, "on_bulk_free": FREE, "on_rcu_free": SHEAF},
    "7.3": {"on_bulk_alloc": NOPROF, "on_bulk_free": FREE, "on_rcu_free": SHEAF},
}
# BULK_ALLOC, BULK_RETURN_MASK, BULK_FREE, RCU_SHEAVES
DEFINES = {
    "5.10": (0, INT, 0, 0),
    "6.0": (0, INT, 0, 0),
    "6.1": (1, INT, 1, 0),
    "6.12": (1, INT, 1, 0),
    "6.18": (1, INT, 1, 1),
    "7.3": (1, BOOL, 1, 1),
}
MACROS = ("HAVE_BULK_ALLOC", "BULK_RETURN_MASK", "HAVE_BULK_FREE", "HAVE_RCU_SHEAVES")
CLOSED = ("bulk_alloc", "bulk_free", "rcu_free")
WATCHED = [kernel for kernel in KERNELS if HOOKS[kernel]]


def hooks_of(kernel: str = "6.18", **changes: Any) -> Part:
    return plan_bulk_hooks(facts(kernel, **changes))


def states(found: Part) -> dict[str, str]:
    return {name: feature.state for name, feature in found.features.items()}


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_functions_of_each_kernel_are_watched(kernel: str) -> None:
    assert hooks_of(kernel).hooks == HOOKS[kernel]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_programs_know_the_functions_shapes(kernel: str) -> None:
    defines = hooks_of(kernel).defines
    assert tuple(defines[name] for name in MACROS) == DEFINES[kernel]
    assert set(defines) == {*MACROS, "NR_BULK_OWN_FRAMES"}


@pytest.mark.parametrize(("machine", "frames"), [("x86_64", 2), ("aarch64", 3)])
def test_the_programs_know_how_deep_their_caller_is(machine: str, frames: int) -> None:
    assert hooks_of(machine=machine).defines["NR_BULK_OWN_FRAMES"] == frames


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_closed_is_on_and_the_rest_is_off(kernel: str) -> None:
    state = State.ON if kernel in WATCHED else State.OFF
    assert states(hooks_of(kernel)) == dict.fromkeys(CLOSED, state)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_plan_has_them_whole(kernel: str) -> None:
    plan, found = make_plan(facts(kernel), Settings()), hooks_of(kernel)
    assert found.hooks.items() <= plan.hooks.items()
    assert found.defines.items() <= plan.defines.items()
    assert found.features.items() <= plan.features.items()
    assert not set(plan.hooks) & {*plan.attach.values(), *plan.run}


@pytest.mark.parametrize("kernel", WATCHED)
def test_every_program_has_its_maps_and_its_feature(kernel: str) -> None:
    found = hooks_of(kernel)
    maps = set(map_names(make_plan(facts(kernel), Settings())))
    for program in found.hooks:
        assert f"{BY_NAME[program].lanes}_lanes" in BY_NAME[program].maps
        assert set(BY_NAME[program].maps) <= maps
        assert BY_NAME[program].feature in found.features


@pytest.mark.parametrize("kernel", WATCHED)
def test_what_is_on_says_where_it_looks(kernel: str) -> None:
    found = hooks_of(kernel)
    for program, hook in found.hooks.items():
        reason = found.features[program.removeprefix("on_")].reason
        assert reason == f"{hook.kind} of {hook.function}()"


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_before_sheaves_rcu_frees_end_in_bulk_frees(kernel: str) -> None:
    assert "kmem_cache_free_bulk()" in hooks_of(kernel).features["rcu_free"].reason


@pytest.mark.parametrize("kernel", ["5.10", "6.0"])
def test_where_programs_can_run_inside_themselves_there_are_none(kernel: str) -> None:
    """Even where the functions can be attached to."""
    for reason in ("", "Operation not permitted"):
        for feature in hooks_of(kernel, fentry_refused=reason).features.values():
            assert "before 6.1" in feature.reason


@pytest.mark.parametrize("kernel", WATCHED)
def test_a_kernel_that_refuses_is_quoted(kernel: str) -> None:
    found = hooks_of(kernel, fentry_refused="Operation not permitted")
    assert (found.hooks, states(found)) == ({}, dict.fromkeys(CLOSED, State.OFF))
    assert tuple(found.defines[name] for name in MACROS) == (0, INT, 0, 0)
    for feature in found.features.values():
        assert "refuses fentry programs: Operation not permitted" in feature.reason
    for name in ("bulk_free", "rcu_free"):
        assert "frees_observable" in found.features[name].reason


def test_functions_that_btf_does_not_describe_are_not_watched() -> None:
    found = hooks_of(functions={})
    assert (found.hooks, states(found)) == ({}, dict.fromkeys(CLOSED, State.OFF))
    assert all("BTF does not describe" in feature.reason for feature in found.features.values())


@pytest.mark.parametrize(
    ("missing", "off"),
    [("kmem_cache_alloc_bulk_noprof", "bulk_alloc"), ("kmem_cache_free_bulk", "bulk_free")],
)
def test_each_function_is_watched_without_the_others(missing: str, off: str) -> None:
    found = hooks_of(functions=without(FUNCTIONS["6.18"], missing))
    assert found.hooks == without(HOOKS["6.18"], f"on_{off}")
    assert [name for name, state in states(found).items() if state == State.OFF] == [off]
    assert found.defines[f"HAVE_{off.upper()}"] == 0
    assert "BTF does not describe" in found.features[off].reason


def test_without_the_function_of_bulk_frees_rcu_batches_are_not_seen_either() -> None:
    found = hooks_of("6.12", functions=without(FUNCTIONS["6.12"], "kmem_cache_free_bulk"))
    assert set(found.hooks) == {"on_bulk_alloc"}
    assert states(found) == {"bulk_alloc": State.ON, "bulk_free": State.OFF, "rcu_free": State.OFF}


def test_the_name_with_profiling_is_preferred() -> None:
    both = {**FUNCTIONS["6.18"], "kmem_cache_alloc_bulk": Function(7, "int", ("void *",))}
    assert hooks_of(functions=both).hooks["on_bulk_alloc"] == NOPROF


def test_programs_refused_at_the_end_take_what_rests_on_them_along() -> None:
    plain = hooks_of("6.12").features
    assert refused(plain, {}) == {}
    found = refused(plain, {"on_bulk_free": "busy"})
    assert {name: feature.state for name, feature in found.items()} == {
        "bulk_free": State.OFF,
        "rcu_free": State.OFF,
    }
    assert all("busy" in feature.reason for feature in found.values())
    assert set(refused(plain, {"on_bulk_alloc": "busy"})) == {"bulk_alloc"}
