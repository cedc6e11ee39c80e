# SPDX-License-Identifier: Apache-2.0
"""GFP flags as classes and modifiers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.gfp import MODIFIERS
from slabmon.kernel.probe.gfp import (
    CLASSES,
    STABLE_BITS,
    bits_from_format,
    classifier,
    modifier_masks,
    modifiers_of,
)

DMA, HIGHMEM, DMA32, MOVABLE, RECLAIMABLE, HIGH, IO, FS, ZERO = (1 << bit for bit in range(9))
DIRECT, KSWAPD, NOWARN, ACCOUNT = 0x400, 0x800, 0x2000, 0x400000
RECLAIM = DIRECT | KSWAPD
# Bit of __GFP_HARDWALL: 17 on 5.10, 16 on 6.12, and one of no kernel.
HARDWALL_BITS = (17, 16, 24)
GFP_KERNEL = RECLAIM | IO | FS


def composites(hardwall_bit: int) -> dict[str, tuple[int, str]]:
    """include/linux/gfp_types.h"""
    user = GFP_KERNEL | 1 << hardwall_bit
    return {
        "GFP_ATOMIC": (HIGH | KSWAPD, "atomic"),
        "GFP_KERNEL": (GFP_KERNEL, "kernel"),
        "GFP_KERNEL_ACCOUNT": (GFP_KERNEL | ACCOUNT, "kernel"),
        "GFP_NOWAIT": (KSWAPD, "nowait"),
        "GFP_NOWAIT, 6.6+": (KSWAPD | NOWARN, "nowait"),
        "GFP_NOIO": (RECLAIM, "noio"),
        "GFP_NOFS": (RECLAIM | IO, "nofs"),
        "GFP_USER": (user, "user"),
        "GFP_DMA": (DMA, "dma"),
        "GFP_DMA32": (DMA32, "dma32"),
        "GFP_HIGHUSER": (user | HIGHMEM, "highuser"),
        "GFP_HIGHUSER_MOVABLE": (user | HIGHMEM | MOVABLE, "highuser"),
        "GFP_KERNEL | GFP_DMA": (GFP_KERNEL | DMA, "dma"),
        "GFP_ATOMIC | GFP_DMA32": (HIGH | KSWAPD | DMA32, "dma32"),
        "GFP_KERNEL | __GFP_ZERO": (GFP_KERNEL | ZERO, "kernel"),
        "GFP_KERNEL | __GFP_RECLAIMABLE": (GFP_KERNEL | RECLAIMABLE, "kernel"),
        "GFP_ATOMIC | __GFP_ZERO | __GFP_NOWARN": (HIGH | KSWAPD | ZERO | NOWARN, "atomic"),
        "0": (0, "other"),
        "__GFP_HIGH": (HIGH, "other"),
    }


CASES = [
    pytest.param(bit, flags, wanted, id=f"{name}, hardwall {bit}")
    for bit in HARDWALL_BITS
    for name, (flags, wanted) in composites(bit).items()
]


@pytest.mark.parametrize(("hardwall", "flags", "wanted"), CASES)
def test_each_composite_is_its_class(hardwall: int, flags: int, wanted: str) -> None:
    assert classifier({"HARDWALL": hardwall})(flags) == wanted


def test_every_class_but_other_has_a_composite() -> None:
    assert {wanted for _, wanted in composites(17).values()} == set(CLASSES)


def test_without_the_hardwall_bit_user_memory_counts_as_kernel() -> None:
    assert classifier({})(GFP_KERNEL | 1 << 17) == "kernel"


def test_a_kernels_own_bits_take_precedence() -> None:
    classify = classifier({"DMA": 30})
    assert classify(1 << 30) == "dma"
    assert classify(GFP_KERNEL | 1) == "kernel"


@given(st.integers(0, 2**32 - 1))
def test_any_flags_have_one_of_the_classes(flags: int) -> None:
    assert classifier({"HARDWALL": 17})(flags) in CLASSES


FORMAT_510 = (
    'print fmt: "call_site=%pS ptr=%p gfp_flags=%s", (void *)REC->call_site, REC->ptr, '
    '(REC->gfp_flags) ? __print_flags(REC->gfp_flags, "|", '
    "{(unsigned long)((((((( gfp_t)(0x400u|0x800u)) | (( gfp_t)0x40u) | (( gfp_t)0x80u) | "
    '(( gfp_t)0x20000u)) | (( gfp_t)0x02u))), "GFP_HIGHUSER"}, '
    "{(unsigned long)((( gfp_t)(0x400u|0x800u)) | (( gfp_t)0x40u) | (( gfp_t)0x80u)), "
    '"GFP_KERNEL"}, {(unsigned long)(( gfp_t)0x01u), "GFP_DMA"}, '
    '{(unsigned long)(( gfp_t)0x20u), "__GFP_HIGH"}, '
    '{(unsigned long)(( gfp_t)0x200u), "__GFP_ATOMIC"}, '
    '{(unsigned long)(( gfp_t)0x20000u), "__GFP_HARDWALL"}, '
    '{(unsigned long)(( gfp_t)0x400000u), "__GFP_ACCOUNT"}, '
    '{(unsigned long)(( gfp_t)0x800u), "__GFP_KSWAPD_RECLAIM"}) : "none"'
)
FORMAT_69 = (
    '__print_flags(REC->gfp_flags, "|", {( unsigned long)(((( gfp_t)((((1UL))) << (10)))) | 0), '
    '"GFP_X"}, {( unsigned long)(( gfp_t)0x100000u), "__GFP_HARDWALL" }, '
    '{( unsigned long)(( gfp_t)0x08u), "__GFP_MOVABLE" })'
)


def test_single_flags_are_read_from_the_print_line_of_510() -> None:
    wanted = {"HIGH": 5, "ATOMIC": 9, "HARDWALL": 17, "ACCOUNT": 22, "KSWAPD_RECLAIM": 11}
    assert bits_from_format(FORMAT_510) == wanted


def test_blanks_inside_the_braces_do_not_matter() -> None:
    assert bits_from_format(FORMAT_69) == {"HARDWALL": 20, "MOVABLE": 3}


def test_a_flag_of_several_bits_is_left_out() -> None:
    """__GFP_RECLAIM is DIRECT_RECLAIM|KSWAPD_RECLAIM: it has no bit of its own."""
    entry = '{(unsigned long)(( gfp_t)(0x400u|0x800u)), "__GFP_RECLAIM"}'
    assert bits_from_format(entry) == {}
    assert bits_from_format('{(unsigned long)(( gfp_t)0xc00u), "__GFP_RECLAIM"}') == {}


def test_text_without_flags_has_none() -> None:
    assert bits_from_format('print fmt: "call_site=%pS ptr=%p", REC->call_site, REC->ptr') == {}


def test_bits_read_from_the_print_line_make_user_memory_visible() -> None:
    classify = classifier(bits_from_format(FORMAT_510))
    assert classify(GFP_KERNEL | 0x20000) == "user"
    assert classify(GFP_KERNEL | 0x20000 | HIGHMEM) == "highuser"


# Of include/linux/gfp_types.h, and of no kernel.
BITS_618 = {"RETRY_MAYFAIL": 14, "NOFAIL": 15, "NORETRY": 16, "COMP": 18}
BITS_OTHER = {"RETRY_MAYFAIL": 13, "NOFAIL": 14, "NORETRY": 15, "COMP": 17, "NOWARN": 12}


@pytest.mark.parametrize("bits", [BITS_618, BITS_OTHER])
def test_each_modifier_is_the_bit_that_the_kernel_gives_it(bits: dict[str, int]) -> None:
    masks = modifier_masks(bits)
    assert tuple(masks) == MODIFIERS
    known = {**STABLE_BITS, **bits}
    for name, mask in masks.items():
        assert mask == 1 << known[name.upper()]
        assert modifiers_of(mask, masks) == (name,)
    assert modifiers_of(GFP_KERNEL | MOVABLE, masks) == ()
    assert modifiers_of(HIGH | KSWAPD | ZERO | masks["nofail"], masks) == ("zero", "high", "nofail")
    assert modifiers_of((1 << 32) - 1, masks) == MODIFIERS


def test_a_modifier_whose_bit_is_not_known_is_left_out() -> None:
    unknown = {"noretry", "retry_mayfail", "nofail"}
    assert tuple(modifier_masks({})) == tuple(name for name in MODIFIERS if name not in unknown)


def test_stable_bits_are_those_of_the_kernel() -> None:
    masks = {name: 1 << bit for name, bit in STABLE_BITS.items()}
    assert masks["DIRECT_RECLAIM"] | masks["KSWAPD_RECLAIM"] == RECLAIM
    assert (masks["ACCOUNT"], masks["RECLAIMABLE"], masks["DMA"]) == (ACCOUNT, RECLAIMABLE, DMA)
