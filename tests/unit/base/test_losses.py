# SPDX-License-Identifier: Apache-2.0
"""Classes of loss reasons."""

from __future__ import annotations

from slabmon.base.losses import LOSS_CLASSES, LossClass, loss_class, lost_frees


def test_reasons_that_name_a_kind_of_event_have_its_class() -> None:
    for reason, found in LOSS_CLASSES.items():
        if reason.startswith("sample"):
            assert found == LossClass.SAMPLE, reason
        if reason.startswith(("device_", "events_")):
            assert found == LossClass.DEVICE, reason


def test_an_event_skipped_by_the_recursion_guard_may_be_of_either_kind() -> None:
    assert loss_class("recursion_kfree") == loss_class("recursion_bulk_free") == LossClass.EVENT


def test_reasons_of_other_versions_have_no_class() -> None:
    assert loss_class("of_tomorrow") is None


def test_lost_frees_are_those_that_make_dead_objects_seem_alive() -> None:
    recursions = ("recursion_kfree", "recursion_kmalloc_node", "recursion_bulk_alloc")
    every = dict.fromkeys((*LOSS_CLASSES, *recursions, "of_tomorrow"), 1)
    counted = {reason for reason in every if lost_frees({reason: 1})}
    assert counted == {
        "cache_slots_full",
        "cache_unresolved",
        "nesting",
        "bulk_too_long",
        "places",
        "recursion_kfree",
    }
    assert lost_frees(every) == len(counted)
    assert lost_frees({"nesting": 3, "samples_full": 5}) == 3


def test_no_object_of_kmalloc_is_lost_by_an_event_of_kmem_cache_free() -> None:
    losses = {"recursion_kmem_cache_free": 8689, "recursion_kfree": 7, "nesting": 2}
    assert lost_frees(losses) == 8698
    assert lost_frees(losses, kmalloc=True) == 9
