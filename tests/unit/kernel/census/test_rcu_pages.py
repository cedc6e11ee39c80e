# SPDX-License-Identifier: Apache-2.0
"""Pages that CPUs keep for kfree_rcu(), in memory made by hand: what they hold is freed."""

from __future__ import annotations

import dataclasses

import pytest

from slabmon.kernel.census import rcu_pages
from slabmon.kernel.census.memory_map import PAGE_BYTES
from tests.support.slab_memory import DIRECT_MAP
from tests.unit.kernel.census.test_stacks import LAYOUT_OF_STACKS, Host

LAYOUT = dataclasses.replace(
    LAYOUT_OF_STACKS,
    offsets={**LAYOUT_OF_STACKS.offsets, "percpu.krc": 640, "krc.bkvcache": 32},
)
LIST = 640 + 32


@pytest.fixture
def host() -> Host:
    host = Host()
    host.layout = LAYOUT
    return host


def page(host: Host, following: int, *objects: int) -> int:
    """A page of the list, before another; return its address."""
    address = DIRECT_MAP + host.kernel.add_pages() * PAGE_BYTES
    for place, word in enumerate((following, len(objects), *objects)):
        host.kernel.memory.write_word(address + 8 * place, word)
    return address


def test_what_pages_in_the_list_hold_is_not_referred_to(host: Host) -> None:
    freed, taken = [host.thing() for _ in range(2)], host.thing()
    last = page(host, 0, freed[1])
    host.kernel.memory.write_word(host.section + LIST, page(host, last, freed[0]))
    page(host, last, taken)  # one that a CPU has taken from the list to use it
    assert not set(freed) & host.reached()
    assert taken in host.reached()
    host.kernel.memory.write_word(host.section + LIST, 0)
    assert set(freed) <= host.reached()


@pytest.mark.parametrize("following", [8, 1 << 20, DIRECT_MAP + (1 << 40)])
def test_what_is_no_page_ends_the_list(host: Host, following: int) -> None:
    first = page(host, following)
    host.kernel.memory.write_word(host.section + LIST, first)
    host.heap()
    found = rcu_pages.find(host.kernel.memory, LAYOUT, host.reading)
    assert found.tolist() == [(first - DIRECT_MAP) // PAGE_BYTES]


def test_a_list_that_leads_back_to_itself_ends(host: Host) -> None:
    first = page(host, 0)
    host.kernel.memory.write_word(first, first)
    host.kernel.memory.write_word(host.section + LIST, first)
    host.heap()
    found = rcu_pages.find(host.kernel.memory, LAYOUT, host.reading)
    assert found.tolist() == [(first - DIRECT_MAP) // PAGE_BYTES]
