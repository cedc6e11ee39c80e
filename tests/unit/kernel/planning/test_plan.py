# SPDX-License-Identifier: Apache-2.0
"""From facts to the plan: argument positions, and what each missing capability leads to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.exact_target import Target
from slabmon.kernel.planning.plan import Plan, make_plan
from slabmon.kernel.probe.cgroups import ANY_LEVEL
from slabmon.kernel.programs import ALLOCATION_EVENTS, READ_WORD, SEED, WALK
from slabmon.kernel.settings import Settings
from slabmon.model import FeatureState, State
from tests.support.hosts import KERNELS, PROTOTYPES, facts, without


def plan(kernel: str = "6.18", **changes: Any) -> Plan:
    return make_plan(facts(kernel, **changes), Settings())


# kmalloc: requested, allocated, gfp, node; kmem_cache_alloc: cache, gfp, node; free: cache.
# 0: this kernel does not tell.
POSITIONS = {
    "5.10": (2, 3, 4, 0, 0, 4, 0, 0),
    "6.0": (3, 4, 5, 0, 2, 5, 0, 0),
    "6.1": (2, 3, 4, 5, 2, 3, 4, 2),
    "6.12": (2, 3, 4, 5, 2, 3, 4, 2),
    "6.18": (2, 3, 4, 5, 2, 3, 4, 2),
    "7.3": (2, 3, 4, 5, 2, 3, 4, 2),
}
MACROS = (
    "ARG_KMALLOC_REQUESTED",
    "ARG_KMALLOC_ALLOCATED",
    "ARG_KMALLOC_GFP",
    "ARG_KMALLOC_NODE",
    "ARG_CACHE_ALLOC_CACHE",
    "ARG_CACHE_ALLOC_GFP",
    "ARG_CACHE_ALLOC_NODE",
    "ARG_CACHE_FREE_CACHE",
)


@pytest.mark.parametrize("kernel", KERNELS)
def test_arguments_are_where_the_kernels_prototypes_have_them(kernel: str) -> None:
    defines = plan(kernel).defines
    assert tuple(defines[name] for name in MACROS) == POSITIONS[kernel]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_events_of_each_kernel_are_attached(kernel: str) -> None:
    found = plan(kernel)
    wanted = {event for event in ALLOCATION_EVENTS if event in PROTOTYPES[kernel]}
    assert found.attach.keys() & ALLOCATION_EVENTS == wanted
    assert all(function == f"on_{event}" for event, function in found.attach.items())
    assert found.defines["HAVE_NODE_EVENTS"] == ("kmalloc_node" in wanted)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_capable_host_has_all_but_the_known_gaps(kernel: str) -> None:
    gaps = {name for name, feature in plan(kernel).features.items() if feature.state != State.ON}
    expected = {"pages"}
    if kernel == "5.10":
        expected |= {"devres_log", "device_inventory"}
    if kernel in ("5.10", "6.0"):
        expected |= {"kmem_cache_free", "bulk_alloc", "bulk_free", "rcu_free"}
    if kernel in ("5.10", "6.0", "6.1"):
        expected |= {"dma", "dma_pages"}
    assert gaps == expected


@pytest.mark.parametrize("kernel", KERNELS)
def test_whatever_is_not_on_says_why(kernel: str) -> None:
    for changes in ({}, {"kfunc_get_cache": None, "page_symbols": False}, {"kallsyms": False}):
        for name, feature in plan(kernel, **changes).features.items():
            assert feature.state in (State.ON, State.DEGRADED, State.OFF)
            assert feature.state == State.ON or len(feature.reason) > 5, name


@pytest.mark.parametrize(
    ("changes", "error", "code", "word"),
    [
        ({"btf": False, "prototypes": {}, "offsets": {}}, UnsupportedHost, 4, "BTF"),
        ({"root": False}, PermissionDenied, 3, "root"),
        ({"lockdown": "confidentiality"}, UnsupportedHost, 4, "lockdown"),
        ({"machine": "riscv64"}, UnsupportedHost, 4, "riscv64"),
        ({"prototypes": without(PROTOTYPES["6.18"], "kfree")}, UnsupportedHost, 4, "kfree"),
        ({"offsets": {}}, UnsupportedHost, 4, "OFF_CACHE_NAME"),
    ],
)
def test_a_host_that_cannot_run_slabmon_is_told_why(
    changes: dict[str, Any], error: type[SlabmonError], code: int, word: str
) -> None:
    with pytest.raises(error, match=word) as caught:
        plan(**changes)
    assert caught.value.exit_code == code


def test_lockdown_integrity_is_no_obstacle() -> None:
    assert plan(lockdown="integrity").features["kmalloc"].state == State.ON


def test_the_kernels_function_finds_caches_where_there_is_one() -> None:
    found = plan("6.18")
    assert found.defines["HAVE_CACHE_BY_KFUNC"] == 1
    assert found.defines["KFUNC_GET_KMEM_CACHE"] == 98_765
    assert READ_WORD not in found.run


@pytest.mark.parametrize("kernel", ["5.10", "6.0", "6.1", "6.12"])
def test_without_the_kernels_function_pages_are_walked(kernel: str) -> None:
    found = plan(kernel)
    host = facts(kernel)
    defines = found.defines
    assert (defines["HAVE_CACHE_BY_KFUNC"], defines["HAVE_CACHE_BY_PAGE"]) == (0, 1)
    assert "KFUNC_GET_KMEM_CACHE" not in defines
    assert READ_WORD in found.run
    assert (defines["PAGE_SLAB_MASK"], defines["PAGE_SLAB_VALUE"]) == host.slab_test
    flags_word = 0 if host.slab_test_in_flags else host.offsets["OFF_PAGE_TYPE"]
    assert defines["OFF_PAGE_SLAB_TEST"] == flags_word
    assert defines["OFF_SLAB_CACHE"] == host.offsets["OFF_SLAB_CACHE"]
    assert found.features["cache_of_address"].state == State.ON


def test_arm64_walks_pages_from_61_on() -> None:
    found = plan("6.12", machine="aarch64")
    assert found.features["cache_of_address"].state == State.ON
    assert found.defines["HAVE_CACHE_BY_PAGE"] == 1
    assert READ_WORD in found.run


def test_before_struct_slab_the_cache_is_a_member_of_struct_page() -> None:
    host = facts("5.10")
    found = plan("5.10", offsets=without(host.offsets, "OFF_SLAB_CACHE"))
    assert found.defines["OFF_SLAB_CACHE"] == host.offsets["OFF_PAGE_SLAB_CACHE"]


@pytest.mark.parametrize(
    "missing",
    [
        {"page_symbols": False},
        {"slab_test": None},
        {"machine": "aarch64", "recursion_guard": False},
    ],
)
def test_a_host_that_can_do_neither_is_degraded_and_says_so(missing: dict[str, Any]) -> None:
    found = plan("6.12", **missing)
    assert found.features["cache_of_address"].state == State.DEGRADED
    assert found.defines["HAVE_CACHE_LOOKUP"] == 0
    assert READ_WORD not in found.run
    assert {"kmalloc", "kfree"} <= found.attach.keys()


@pytest.mark.parametrize("kernel", KERNELS)
def test_hidden_symbols_are_named_with_the_remedy(kernel: str) -> None:
    """Whatever works worse without them says so. Only 5.10 has no variables in BTF."""
    whole = plan(kernel)
    hidden = {"kallsyms": False, "page_symbols": False}
    found = plan(kernel, **hidden, **({"per_cpu": {}} if kernel == "5.10" else {}))
    assert found.features["symbols"].state == State.OFF
    worse = {name for name, state in found.features.items() if state != whole.features[name]}
    assert {"symbols", "modules"} <= worse
    assert all("kptr_restrict" in found.features[name].reason for name in worse)
    assert found.features["modules"].state == State.DEGRADED
    assert "module_load" not in found.attach
    assert found.defines["HAVE_MODULES"] == 0


def test_cgroups_are_those_that_memory_is_charged_to() -> None:
    found = plan()
    assert found.features["cgroups"] == FeatureState(State.ON)
    assert found.defines["OFF_CSS_SET_MEMORY"] == 0
    found = plan(cgroup_v1=True, memory_controller=4)
    assert found.features["cgroups"].state == State.ON
    assert "cgroup v1" in found.features["cgroups"].reason
    assert found.defines["OFF_CSS_SET_MEMORY"] == facts().offsets["OFF_CSS_SET_SUBSYS"] + 32


def test_cgroups_without_names_are_degraded() -> None:
    found = plan(cgroups_hidden="no hierarchy is mounted here")
    assert found.features["cgroups"] == FeatureState(State.DEGRADED, "no hierarchy is mounted here")
    assert found.defines["HAVE_CGROUPS"] == 1, "they are shown by number"


def test_a_kernel_without_cgroups_has_none() -> None:
    found = plan(offsets=without(facts().offsets, "OFF_TASK_CGROUPS"))
    assert found.features["cgroups"].state == State.OFF
    assert "CONFIG_CGROUPS" in found.features["cgroups"].reason
    assert found.defines["HAVE_CGROUPS"] == 0


def test_without_devres_log_devices_are_walked_each_time() -> None:
    found = plan(prototypes=without(PROTOTYPES["6.18"], "devres_log"))
    assert found.features["devres_log"].state == State.OFF
    assert "walk" in found.features["devres_log"].reason
    assert "devres_log" not in found.attach
    assert found.defines["HAVE_DEVRES_LOG"] == 0
    assert {WALK, SEED} <= set(found.run)


def test_without_struct_device_there_is_no_inventory() -> None:
    found = plan(offsets=without(facts().offsets, "OFF_DEVICE_DEVRES"))
    assert found.features["device_inventory"].state == State.OFF
    assert found.features["devres_log"].state == State.OFF
    assert WALK not in found.run
    assert "devres_log" not in found.attach


def test_unnamed_resources_degrade_the_inventory() -> None:
    found = plan("5.10")
    assert found.features["device_inventory"].state == State.DEGRADED
    assert found.defines["HAVE_DEVRES_NAMES"] == 0
    assert WALK in found.run


def test_without_a_recursion_guard_each_cpu_has_a_lane_per_nesting_level() -> None:
    guarded, unguarded = plan().defines, plan(recursion_guard=False).defines
    assert (guarded["NR_NESTING"], guarded["NR_LANES"]) == (1, 4)
    assert (unguarded["NR_NESTING"], unguarded["NR_LANES"]) == (3, 12)


def test_a_kernel_without_modules_follows_none_and_lacks_nothing() -> None:
    found = plan(modules=False)
    assert found.features["modules"].state == State.ON
    assert not {"module_load", "module_free"} & found.attach.keys()
    assert found.defines["HAVE_MODULES"] == 0


def test_modules_that_cannot_be_followed_are_degraded() -> None:
    found = plan(prototypes=without(PROTOTYPES["6.18"], "module_load"))
    assert found.features["modules"].state == State.DEGRADED
    assert "module_load" not in found.attach


def test_nodes_are_told_apart_only_where_there_are_several() -> None:
    assert plan(nodes=1).defines["HAVE_MANY_NODES"] == 0
    assert plan(nodes=2).defines["HAVE_MANY_NODES"] == 1


def test_unreadable_slabinfo_is_reported() -> None:
    assert plan(slabinfo=False).features["slabinfo"].state == State.OFF
    hidden = plan(slab_directory=False).features["slabinfo"]
    assert hidden.state == State.DEGRADED
    assert "/sys/kernel/slab" in hidden.reason


def test_page_events_are_attached_only_when_asked_for() -> None:
    assert not {"mm_page_alloc", "mm_page_free"} & plan().attach.keys()
    asked = make_plan(facts(), Settings(pages=True))
    assert {"mm_page_alloc", "mm_page_free"} <= asked.attach.keys()
    assert (asked.defines["HAVE_PAGES"], asked.features["pages"].state) == (1, State.ON)


def test_without_stack_frames_there_are_no_stacks() -> None:
    found = make_plan(facts(), Settings(stack_frames=0))
    assert found.defines["HAVE_STACKS"] == 0
    assert found.features["stacks"].state == State.OFF


@pytest.mark.parametrize("samples", [4096, 3 * 4096, 128 * 1024, 1 << 22])
def test_the_gate_has_four_counters_or_more_for_each_sample(samples: int) -> None:
    bits = make_plan(facts(), Settings(samples=samples)).defines["NR_FILTER_BITS"]
    assert 4 * samples <= 1 << bits < 8 * samples


def test_a_cache_filter_compares_names() -> None:
    exact = Settings(exact=Filter(cache="kmalloc-cg-96"))
    defines = make_plan(facts(), exact, Target(caches=("kmalloc-cg-96",))).defines
    names = ("HAVE_EXACT", "HAVE_EXACT_CACHE", "HAVE_EXACT_LARGE")
    assert tuple(defines[name] for name in names) == (1, 1, 0)
    large = make_plan(facts(), exact, Target(caches=("kmalloc-large",))).defines
    assert large["HAVE_EXACT_LARGE"] == 1


def test_sizes_site_process_and_cgroup_of_a_filter_are_compiled_in() -> None:
    exact = Filter(site="probe", min_size=100, max_size=200, cgroup="/x", pid=12)
    target = Target(cgroup=77, level=3, pid=12)
    defines = make_plan(facts(), Settings(exact=exact), target).defines
    assert (defines["EXACT_MIN_BYTES"], defines["EXACT_MAX_BYTES"]) == (100, 200)
    assert (defines["HAVE_EXACT_SITE"], defines["HAVE_EXACT_CACHE"]) == (1, 0)
    assert (defines["EXACT_CGROUP"], defines["EXACT_PID"]) == (77, 12)
    assert (defines["EXACT_LEVEL_FIRST"], defines["EXACT_LEVEL_LAST"]) == (3, 3)
    module = make_plan(facts(), Settings(exact=Filter(module="card"))).defines
    assert (module["HAVE_EXACT_SITE"], module["HAVE_EXACT_MODULE"]) == (1, 1)


def test_at_an_unknown_level_all_ancestors_are_compared() -> None:
    target = Target(cgroup=77, level=ANY_LEVEL)
    defines = make_plan(facts(), Settings(exact=Filter(cgroup="/x")), target).defines
    assert (defines["EXACT_LEVEL_FIRST"], defines["EXACT_LEVEL_LAST"]) == (0, 15)


def test_sampled_mode_compiles_no_filter_in() -> None:
    defines = plan().defines
    assert not any(value for name, value in defines.items() if name.startswith("HAVE_EXACT"))


def test_reading_slabinfo_can_be_refused() -> None:
    assert make_plan(facts(), Settings()).features["slabinfo"].state == State.ON
    refused = make_plan(facts(), Settings(slabinfo=False)).features["slabinfo"]
    assert (refused.state, refused.reason) == (State.OFF, "switched off by tracking.slabinfo")


def test_forks_are_followed_only_in_the_tree_of_a_process() -> None:
    assert "sched_process_fork" not in plan().attach
    assert "process_tree" not in plan().features
    found = make_plan(facts(), Settings(exact=Filter(process_tree=77)))
    assert found.attach["sched_process_fork"] == "on_process_fork"
    assert found.features["process_tree"].state == State.ON


@pytest.mark.parametrize(
    ("exact", "flags"),
    [
        (Filter(), 1 << 17),
        (Filter(min_size=9), 1 << 17),
        (Filter(cache="a"), 0),
        (Filter(family="kmalloc-rcl-64"), 0),
    ],
)
def test_a_process_tree_excludes_reclaimable_caches_unless_one_is_named(
    exact: Filter, flags: int
) -> None:
    defines = make_plan(facts(), Settings(exact=replace(exact, process_tree=77))).defines
    assert defines["EXACT_EXCLUDED_FLAGS"] == flags
    assert make_plan(facts(), Settings(exact=exact)).defines["EXACT_EXCLUDED_FLAGS"] == 0


def test_the_mask_of_reclaimable_caches_is_the_running_kernels() -> None:
    host = facts(slab_flags={"RECLAIM_ACCOUNT": 1 << 9})
    plan_ = make_plan(host, Settings(exact=Filter(process_tree=77)))
    assert plan_.defines["EXACT_EXCLUDED_FLAGS"] == 1 << 9


def test_processes_that_cannot_be_followed_are_an_error_that_names_the_way_out() -> None:
    host = facts(prototypes=without(facts().prototypes, "sched_process_fork"))
    with pytest.raises(UnsupportedHost, match="name a module, site or cgroup"):
        make_plan(host, Settings(exact=Filter(process_tree=77)))
