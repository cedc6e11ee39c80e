# SPDX-License-Identifier: Apache-2.0
"""Modules come and go: no call site is ever credited to a module that was not there."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.kernel.symbols.kallsyms import UNKNOWN, Location, Symbols
from tests.support.kallsyms import CORE, MODULE, Host, drivers

SIZE = 0x1000


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_an_address_used_again_belongs_to_the_module_of_its_generation(host: Host) -> None:
    drivers(host, {"old": MODULE})
    symbols = host.symbols()
    host.unload("old")
    symbols.module_freed("old", 1)
    drivers(host, {"new": MODULE})
    symbols.module_loaded("new", [(MODULE, MODULE + SIZE)], 2)
    symbols.refresh(2)
    assert symbols.resolve(MODULE + 8, 0) == Location("old_probe", 8, "old")
    assert symbols.resolve(MODULE + 8, 1) == Location(UNKNOWN, 0, None), "nobody was there"
    assert symbols.resolve(MODULE + 8, 2) == Location("new_probe", 8, "new")
    assert symbols.resolve(MODULE + 8, 7) == Location("new_probe", 8, "new")


def test_a_module_is_not_credited_before_it_was_loaded(host: Host) -> None:
    symbols = host.symbols()
    drivers(host, {"late": MODULE})
    symbols.module_loaded("late", [(MODULE, MODULE + SIZE)], 3)
    symbols.refresh(3)
    assert symbols.resolve(MODULE, 2) == Location(UNKNOWN, 0, None)
    assert symbols.resolve(MODULE, 3).module == "late"


def test_until_its_symbols_are_read_a_module_is_named_without_function(host: Host) -> None:
    symbols = host.symbols()
    symbols.module_loaded("late", [(MODULE, MODULE + SIZE)], 1)
    assert symbols.resolve(MODULE + 8, 1) == Location(UNKNOWN, 8, "late")


def test_a_module_reloaded_elsewhere_is_found_at_both_places_in_their_time(host: Host) -> None:
    drivers(host, {"card": MODULE})
    symbols = host.symbols()
    symbols.module_freed("card", 1)
    drivers(host, {"card": MODULE + 0x8000})
    symbols.module_loaded("card", [(MODULE + 0x8000, MODULE + 0x8000 + SIZE)], 2)
    symbols.refresh(2)
    assert symbols.resolve(MODULE + 4, 0) == Location("card_probe", 4, "card")
    assert symbols.resolve(MODULE + 4, 2) == Location(UNKNOWN, 0, None)
    assert symbols.resolve(MODULE + 0x8004, 2) == Location("card_probe", 4, "card")
    assert symbols.module_ranges("card") == ((MODULE + 0x8000, MODULE + 0x8000 + SIZE),)


def test_refresh_alone_notices_unloading_and_loading(host: Host) -> None:
    """As after lost events."""
    drivers(host, {"old": MODULE})
    symbols = host.symbols()
    host.unload("old")
    drivers(host, {"new": MODULE})
    symbols.refresh(2)
    assert symbols.resolve(MODULE, 2) == Location("new_probe", 0, "new")
    assert symbols.resolve(MODULE, 0) == Location("old_probe", 0, "old")
    assert symbols.module_ranges("old") == ()


def test_after_lost_events_doubtful_generations_are_credited_to_nobody_wrongly(host: Host) -> None:
    """old left in generation 1, new came in 2, others until 5; the events are lost. A site of
    generation 3 is new's, or unknown, but not old's."""
    drivers(host, {"old": MODULE})
    symbols = host.symbols()
    host.unload("old")
    drivers(host, {"new": MODULE})
    symbols.refresh(5)
    for generation in (2, 3, 4):
        assert symbols.resolve(MODULE, generation).module != "old", generation


def test_after_lost_events_a_module_that_moved_is_found_where_it_is(host: Host) -> None:
    drivers(host, {"card": MODULE})
    symbols = host.symbols()
    host.unload("card")
    drivers(host, {"card": MODULE + 0x8000})
    symbols.refresh(2)
    assert symbols.resolve(MODULE + 0x8004, 2) == Location("card_probe", 4, "card")
    assert symbols.resolve(MODULE + 4, 2) == Location(UNKNOWN, 0, None)


def test_a_module_gone_before_its_symbols_were_read_keeps_its_generation(host: Host) -> None:
    """Its load was seen, its end is still to come: what it allocated meanwhile is its own."""
    symbols = host.symbols()
    symbols.module_loaded("brief", [(MODULE, MODULE + SIZE)], 5)
    symbols.refresh(6)
    assert symbols.resolve(MODULE + 8, 5) == Location(UNKNOWN, 8, "brief")
    symbols.module_freed("brief", 6)
    assert symbols.resolve(MODULE + 8, 6) == Location(UNKNOWN, 0, None)


def test_init_text_that_is_gone_is_not_credited_to_another_function(host: Host) -> None:
    """kallsyms drops a module's init symbols once its init function has returned."""
    symbols = host.symbols()
    drivers(host, {"card": MODULE})
    init = MODULE + 0x20000
    symbols.module_loaded("card", [(MODULE, MODULE + SIZE), (init, init + SIZE)], 1)
    symbols.refresh(1)
    found = symbols.resolve(init + 0x10, 1)
    assert found.module == "card"
    assert found.symbol == UNKNOWN


Step = tuple[str, str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["load", "unload"]), st.sampled_from(["a", "b", "c"]), st.integers(0, 2)
    ),
    max_size=12,
)


def _play(host: Host, symbols: Symbols, steps: list[Step]) -> list[dict[int, str]]:
    """Loads and unloads with all events delivered; returns who was where in each generation."""
    where: dict[str, int] = {}
    history: list[dict[int, str]] = [{}]
    for action, name, slot in steps:
        generation = len(history)
        base = MODULE + slot * 0x4000
        if action == "load" and name not in where and base not in where.values():
            where[name] = base
            drivers(host, {name: base})
            symbols.module_loaded(name, [(base, base + SIZE)], generation)
        elif action == "unload" and name in where:
            del where[name]
            host.unload(name)
            symbols.module_freed(name, generation)
        else:
            continue
        symbols.refresh(generation)
        history.append({base: name for name, base in where.items()})
    return history


@given(STEPS)
def test_every_generation_resolves_to_the_modules_it_had(tmp_path: Path, steps: list[Step]) -> None:
    host = Host(tmp_path)
    symbols = host.symbols()
    for generation, there in enumerate(_play(host, symbols, steps)):
        for slot in range(3):
            address = MODULE + slot * 0x4000
            name = there.get(address)
            wanted = Location(f"{name}_probe", 5, name) if name else Location(UNKNOWN, 0, None)
            assert symbols.resolve(address + (5 if name else 0), generation) == wanted


def test_reloads_do_not_pile_up(host: Host) -> None:
    """A module that comes and goes leaves its place behind, not the text it was read from; the
    symbols of the last ones stay, for call sites that nobody asked about yet."""
    host.extra = "".join(f"{MODULE + 0x10000000 + i:016x} d filler_{i}\n" for i in range(500))
    symbols = host.symbols()

    def reload(number: int) -> None:
        generation = 2 * number
        base = MODULE + number * SIZE
        drivers(host, {"card": base})
        symbols.module_loaded("card", [(base, base + SIZE)], generation)
        symbols.refresh(generation)
        host.unload("card")
        symbols.module_freed("card", generation + 1)
        symbols.refresh(generation + 1)

    for number in range(1, 101):
        reload(number)
    tracemalloc.start()
    try:
        for number in range(101, 201):
            reload(number)
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown < 100 * 2000
    assert symbols.resolve(MODULE + 200 * SIZE, 400) == Location("card_probe", 0, "card")
    assert symbols.resolve(MODULE + SIZE, 2).module == "card"


def test_sites_of_modules_keep_their_names_over_a_restart(tmp_path: Path) -> None:
    host = Host(tmp_path)
    drivers(host, {"stays": MODULE, "goes": MODULE + 0x4000})
    first = host.symbols()
    first.module_loaded("later", [(MODULE + 0x8000, MODULE + 0x9000)], 1)
    drivers(host, {"later": MODULE + 0x8000})
    first.refresh(1)

    host.unload("goes")  # while no daemon runs
    drivers(host, {"newer": MODULE + 0x4000})
    second = host.symbols(first.history())
    second.module_freed("goes", 2)  # as the kernel's events tell
    second.module_loaded("newer", [(MODULE + 0x4000, MODULE + 0x5000)], 3)
    second.refresh(3)
    assert second.resolve(MODULE + 4, 0) == ("stays_probe", 4, "stays")
    assert second.resolve(MODULE + 0x8004, 1) == ("later_probe", 4, "later")
    assert second.resolve(MODULE + 0x8004, 0).module is None
    assert second.resolve(MODULE + 0x4004, 1) == (UNKNOWN, 4, "goes")
    assert second.resolve(MODULE + 0x4004, 3) == ("newer_probe", 4, "newer")
    assert second.resolve(CORE + 0x84, 0).symbol == first.resolve(CORE + 0x84, 0).symbol


def test_a_change_of_modules_is_noticed_without_events(host: Host) -> None:
    drivers(host, {"card": MODULE})
    symbols = host.symbols()
    assert not symbols.modules_changed()
    drivers(host, {"late": MODULE + 0x8000})
    assert symbols.modules_changed()
    assert symbols.resolve(MODULE + 0x8004, 0).symbol == UNKNOWN
    symbols.refresh(0)
    assert not symbols.modules_changed()
    assert symbols.resolve(MODULE + 0x8004, 0) == Location("late_probe", 4, "late")
    host.unload("card")
    assert symbols.modules_changed()


def test_what_was_read_stays_known_when_addresses_are_hidden_later(host: Host) -> None:
    """With kernel.kptr_restrict 2, of modules loaded since only name and place are known."""
    drivers(host, {"card": MODULE, "goes": MODULE + 0x4000})
    symbols = host.symbols()
    assert not symbols.hidden
    host.hide()
    host.unload("goes")
    symbols.module_freed("goes", 1)
    drivers(host, {"late": MODULE + 0x8000})
    symbols.module_loaded("late", [(MODULE + 0x8000, MODULE + 0x9000)], 2)
    symbols.refresh(2)
    assert symbols.hidden
    assert symbols.readable
    assert symbols.resolve(CORE + 0x84, 2).symbol != UNKNOWN
    assert symbols.resolve(MODULE + 4, 2) == Location("card_probe", 4, "card")
    assert symbols.resolve(MODULE + 0x4004, 0) == Location("goes_probe", 4, "goes")
    assert symbols.resolve(MODULE + 0x4004, 2).module is None
    assert symbols.resolve(MODULE + 0x8004, 2) == Location(UNKNOWN, 4, "late")


def test_a_module_whose_unload_was_missed_while_addresses_are_hidden_is_gone(host: Host) -> None:
    drivers(host, {"card": MODULE, "goes": MODULE + 0x4000})
    symbols = host.symbols()
    host.hide()
    host.unload("goes")
    symbols.refresh(1)
    assert symbols.resolve(MODULE + 0x4004, 1).module is None
    assert symbols.resolve(MODULE + 4, 1).module == "card"


def test_modules_are_nowhere_while_addresses_are_hidden(tmp_path: Path) -> None:
    hidden = Host(tmp_path, hidden=True)
    drivers(hidden, {"card": MODULE})
    symbols = hidden.symbols()
    assert (symbols.hidden, symbols.readable) == (True, False)
    assert symbols.module_ranges("card") == ()
    assert symbols.resolve(16, 0) == Location(UNKNOWN, 0, None)
