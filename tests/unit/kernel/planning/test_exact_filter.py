# SPDX-License-Identifier: Apache-2.0
"""A filter's site or module as a range of kernel text."""

from __future__ import annotations

from pathlib import Path

import pytest

from slabmon.base.errors import UsageError
from slabmon.kernel.planning.exact_filter import filtered_text
from slabmon.kernel.settings import Filter
from slabmon.kernel.symbols.kallsyms import Symbols
from tests.support.kallsyms import CORE, MODULE, Host


@pytest.fixture
def symbols(tmp_path: Path) -> Symbols:
    host = Host(tmp_path)
    host.load("card", MODULE, [(0x10, "card_init"), (0x40, "card_probe")])
    return host.symbols()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, (0, 0)),
        (Filter(cache="kmalloc-64"), (0, 0)),
        (Filter(site="__kmalloc_noprof"), (CORE + 0x10, CORE + 0x80)),
        (Filter(site="__kmalloc_noprof+0x1c"), (CORE + 0x2C, CORE + 0x2D)),
        (Filter(site="__kmalloc_noprof+28"), (CORE + 0x2C, CORE + 0x2D)),
        (Filter(module="card"), (MODULE, MODULE + 0x1000)),
    ],
)
def test_sites_and_modules_become_ranges(
    symbols: Symbols, wanted: Filter | None, found: tuple[int, int]
) -> None:
    assert filtered_text(wanted, symbols) == found


def test_a_function_of_a_module_can_be_a_site(symbols: Symbols) -> None:
    """The sites view shows it under this name."""
    assert filtered_text(Filter(site="card_probe+0x4"), symbols) == (MODULE + 0x44, MODULE + 0x45)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Filter(site="absent"), ["absent", "/proc/kallsyms"]),
        (Filter(site="__kmalloc_noprof+far"), ["+far", "OFFSET"]),
        (Filter(site="__kmalloc_noprof+"), ["__kmalloc_noprof+", "OFFSET"]),
        (Filter(module="absent"), ["absent", "lsmod"]),
    ],
)
def test_what_does_not_exist_is_a_usage_error(
    symbols: Symbols, wanted: Filter, words: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        filtered_text(wanted, symbols)
    assert all(word in str(caught.value) for word in words), caught.value
