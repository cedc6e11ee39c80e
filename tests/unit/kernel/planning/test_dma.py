# SPDX-License-Identifier: Apache-2.0
"""DMA memory is counted where the kernel has events that name the device."""

from __future__ import annotations

import pytest

from slabmon.kernel.planning.dma import plan_dma
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.settings import Settings, When
from slabmon.model import State
from tests.support.hosts import DMA, facts

COHERENT = {"dma_alloc": "on_dma_alloc", "dma_free": "on_dma_free"}
ALL = {event: f"on_{event}" for event in DMA}


def attached(plan_facts: object, **settings: object) -> dict[str, str]:
    plan = make_plan(plan_facts, Settings(**settings))  # type: ignore[arg-type]
    return {event: name for event, name in plan.attach.items() if event.startswith("dma_")}


@pytest.mark.parametrize("kernel", ["6.12", "6.18", "7.3"])
def test_kernels_with_the_events(kernel: str) -> None:
    part = plan_dma(facts(kernel), Settings(samples=65536))
    assert {name: feature.state for name, feature in part.features.items()} == {
        "dma": State.ON,
        "dma_pages": State.ON,
    }
    assert (part.defines["HAVE_DMA"], part.defines["HAVE_DMA_PAGES"]) == (1, 1)
    assert part.defines["NR_DMA_BLOCKS"] == 8192
    assert attached(facts(kernel)) == ALL


@pytest.mark.parametrize("kernel", ["5.10", "6.0", "6.1"])
def test_kernels_without_them(kernel: str) -> None:
    part = plan_dma(facts(kernel), Settings())
    assert {feature.state for feature in part.features.values()} == {State.OFF}
    assert {feature.reason for feature in part.features.values()} == {
        "this kernel has no tracepoint dma_alloc (6.12+)"
    }
    assert (part.defines["HAVE_DMA"], part.defines["HAVE_DMA_PAGES"]) == (0, 0)
    assert attached(facts(kernel)) == {}


def test_the_first_kernel_reports_coherent_memory_only() -> None:
    """6.12.0, whose events lack the direction too."""
    first = ("struct device *", "void *", "dma_addr_t", "size_t")
    rest = {name: types for name, types in facts().prototypes.items() if name not in DMA}
    early = facts(
        prototypes={
            **rest,
            "dma_alloc": (*first, "gfp_t", "long unsigned int"),
            "dma_free": (*first, "long unsigned int"),
        }
    )
    part = plan_dma(early, Settings())
    assert part.features["dma"].state == State.ON
    assert part.features["dma_pages"].state == State.OFF
    assert "dma_alloc_pages (6.13+)" in part.features["dma_pages"].reason
    assert attached(early) == COHERENT


def test_events_with_other_arguments_are_left_alone() -> None:
    """One event of each kind: the others that belong to it are not attached either."""
    for event, expected in (("dma_free", {}), ("dma_free_sgt", COHERENT)):
        changed = facts(prototypes={**facts().prototypes, event: ("void *", "size_t")})
        assert attached(changed) == expected
        reason = plan_dma(changed, Settings()).features["dma_pages"].reason
        assert reason.startswith(f"tracepoint {event}: expected arguments struct device *, ")
        assert reason.endswith(", got arguments void *, size_t")


def test_they_stay_attached_while_tracking_sleeps() -> None:
    for when in When:
        assert attached(facts(), when=when) == ALL


def test_reserved_memory_is_told_apart_where_devices_can_have_it() -> None:
    names = ("OFF_DMA_MEM", "OFF_DMA_MEM_BASE", "OFF_DMA_MEM_PAGES")
    offsets = facts().offsets
    assert [plan_dma(facts(), Settings()).defines[name] for name in names] == [
        offsets[name] for name in names
    ]
    for missing in names:
        rest = {name: offset for name, offset in offsets.items() if name != missing}
        defines = plan_dma(facts(offsets=rest), Settings()).defines
        assert [defines[name] for name in names] == [0, 0, 0]
        plan = make_plan(facts(offsets=rest), Settings())
        assert plan.features["device_inventory"].state == State.ON
