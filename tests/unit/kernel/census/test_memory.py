# SPDX-License-Identifier: Apache-2.0
"""Which addresses are read at all."""

from __future__ import annotations

import pytest

from slabmon.kernel.census.memory import lowest_address


@pytest.mark.parametrize(
    ("task", "lowest"),
    [
        (0xFFFF9AA4BBC00000, 0xFFFF800000000000),  # x86-64, 48 bits
        (0xFF11000103C00000, 0xFF00000000000000),  # x86-64, 57 bits
        (0xFFFF000003C00000, 0xFFFF000000000000),  # arm64, 48 bits
        (0xFFF0000003C00000, 0xFF00000000000000),  # arm64, 52 bits
    ],
)
def test_kernel_addresses_begin_below_the_task(task: int, lowest: int) -> None:
    assert lowest_address(task) == lowest
