# SPDX-License-Identifier: Apache-2.0
"""That a census looks for orphans if it is asked to, and says so if it could not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from slabmon.base.errors import UnsupportedHost
from slabmon.census.model import NO_ORPHANS, ORPHANS_UNSUPPORTED, Census, OrphanObjects
from slabmon.kernel.census import (
    cgroups,
    collect,
    features,
    held_rows,
    orphan_rows,
    orphans,
    owners,
    reading,
    symbols,
    tags,
)
from slabmon.kernel.census.held_rows import Described, Retained
from slabmon.kernel.census.memory import BudgetSpent
from slabmon.kernel.census.settings import CensusSettings
from slabmon.kernel.probe import slabinfo
from tests.support.censuses import rich
from tests.support.slab_memory import LAYOUT, FakeKernel

ORPHAN = OrphanObjects(cache="thing", signature="lost", objects=3, bytes=192)
DEVICE, HELD = rich().devices[0], rich().held[0]


def taken(
    monkeypatch: pytest.MonkeyPatch,
    asked: bool,
    error: BaseException | None,
    symbols_known: bool = True,
    in_first: bool = True,
) -> Census:
    """A census of a host on which the search for orphans ends like this, `in_first` of its passes
    or in a later one."""
    kernel = FakeKernel()
    kernel.slab(kernel.cache("thing", 64), free=[0])

    def find(*_: object, tell: Callable[..., object], **__: object) -> SimpleNamespace:
        if error is not None and in_first:
            raise error
        tell(None, None, Retained((DEVICE,), ("some",)))
        if error is not None:
            raise error
        return SimpleNamespace(passes=3)

    def answer(value: object) -> Any:
        return lambda *_, **__: value

    monkeypatch.setattr(reading, "read", answer(kernel.reading(free=[0])))
    monkeypatch.setattr(cgroups, "cgroup_rows", answer(()))
    monkeypatch.setattr(tags, "owner_rows", answer(()))
    monkeypatch.setattr(owners, "owner_rows", answer(owners.Owners(rows=())))
    monkeypatch.setattr(symbols, "read", answer(SimpleNamespace(known=symbols_known)))
    monkeypatch.setattr(slabinfo, "read_aliases", answer({}))
    monkeypatch.setattr(features, "limits", answer(()))
    monkeypatch.setattr(collect, "MemoryWatch", answer(SimpleNamespace(scan=None)))
    monkeypatch.setattr(collect, "Types", answer(None))
    monkeypatch.setattr(orphans, "find", find)
    monkeypatch.setattr(held_rows, "describe", answer(Described((HELD,), ("of these",))))
    monkeypatch.setattr(orphan_rows, "rows", answer((ORPHAN,)))
    settings = CensusSettings(orphans=asked)
    return collect.take(kernel.memory, LAYOUT, None, settings)  # type: ignore[arg-type]  # a fake


def test_orphans_are_in_the_census_if_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = taken(monkeypatch, True, None)
    assert (found.orphans, found.devices, found.held) == ((ORPHAN,), (DEVICE,), (HELD,))
    assert (found.passes, found.limits) == (3, ("some", "of these"))
    found = taken(monkeypatch, False, AssertionError())
    assert (found.orphans, found.passes, found.limits) == ((), 1, ())


def test_hidden_addresses_of_functions_are_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    (limit,) = taken(monkeypatch, False, None, symbols_known=False).limits
    assert "kptr_restrict" in limit


def test_the_peak_is_that_of_this_process_alone() -> None:
    """Not of the one that started it, as with getrusage()."""
    ballast = bytearray(b"x" * (300 << 20))
    code = "from slabmon.kernel.census.collect import peak_bytes; print(peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(done.stdout) < len(ballast) // 2


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (MemoryError(), NO_ORPHANS),
        (BudgetSpent("all is used up"), NO_ORPHANS),
        (UnsupportedHost("other pages"), ORPHANS_UNSUPPORTED),
    ],
)
def test_a_search_that_failed_is_a_limit_and_leaves_the_rest(
    monkeypatch: pytest.MonkeyPatch, error: Exception, limit: str
) -> None:
    found = taken(monkeypatch, True, error)
    assert (found.orphans, found.passes, found.objects) == ((), 1, 63)
    (text,) = found.limits
    assert text.startswith(f"{limit}: ")


@pytest.mark.parametrize("error", [MemoryError(), BudgetSpent("all is used up")])
def test_a_later_pass_that_failed_leaves_what_the_first_one_found(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    found = taken(monkeypatch, True, error, in_first=False)
    assert (found.orphans, found.passes) == ((), 1)
    assert (found.devices, found.held) == ((DEVICE,), (HELD,))
    assert found.limits[:-1] == ("some", "of these")
    assert found.limits[-1].startswith(f"{NO_ORPHANS}: ")
