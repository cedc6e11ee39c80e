# SPDX-License-Identifier: Apache-2.0
"""What a census says of planted objects of known structs, object by object, and how much of a
freshly booted system's generic caches it names."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pytest

from slabmon.census.model import Certainty
from slabmon.kernel.census import memory, naming, reading, symbols
from slabmon.kernel.census.cache_types import CacheTypes
from slabmon.kernel.census.caches import is_kmalloc
from slabmon.kernel.census.contents import NONE
from slabmon.kernel.census.layout import Layout
from slabmon.kernel.census.members import Structs
from slabmon.kernel.census.run import take_census
from slabmon.kernel.census.settings import CensusSettings
from slabmon.kernel.census.types import Types
from slabmon.kernel.probe import btf, slabinfo
from slabmon.kernel.probe.facts import read_text
from slabmon.model import LARGE_CACHE
from tests.vm.guest import planted as module

SETTINGS = CensusSettings(cpu_seconds=900)  # an emulated processor is slow
PARENT = r"pointed to by slabmon_planted_parent\+"
# What says whose each struct is: the module, or a text that names the member that leads to it.
BY_MODULE = (
    *("planted_with_ops", "planted_with_call", "planted_with_timer", "planted_with_work"),
    *("planted_of_file", "planted_in_list", "planted_in_hlist", "planted_in_tree"),
    *("planted_queue", "planted_item"),
)
BY_MEMBER = {
    "planted_of_dentry": r"pointed to by dentry\.d_fsdata",
    "planted_of_device": r"pointed to by device\.driver_data",
    "planted_in_xarray": r"pointed to by xa_node\.slots\[\]",
}
BY_PARENT = (
    *("planted_child", "planted_leaf", "planted_slot", "planted_ring", "planted_branch"),
    *("planted_wide", "planted_narrow"),
)
RAW = "raw"


class Answer(NamedTuple):
    """What a census says of one object."""

    text: str
    module: str | None
    type: str | None


Answers = Mapping[module.Typed, Answer | None]


@pytest.fixture(scope="module", params=[False, True], ids=["without_types", "with_types"])
def named(request: pytest.FixtureRequest) -> Iterator[Answers]:
    """What is known of each planted object, whose module has no types or has them."""
    if request.param and not module.WITH_TYPES.exists():
        pytest.skip("this kernel's headers do not suffice for a module's types")
    module.load(types=request.param)
    try:
        module.run("typed_add")
        objects = module.typed()
        yield dict(zip(objects, answers([each.address for each in objects]), strict=True))
    finally:
        module.run("typed_remove")
        module.unload()


def answers(addresses: list[int]) -> list[Answer | None]:
    """Take a census in this process; return what it says of the objects at these addresses. None
    means that nothing is known, and that an object is found is asserted."""
    with memory.start_compiler() as compiler:
        types = btf.read_vmlinux()
        assert types is not None
        layout = Layout.of(types)
        programs = compiler.finish()
    with programs:
        kernel = memory.KernelMemory(programs, memory.Budget(SETTINGS.cpu_seconds))
        read = reading.read(kernel, layout)
        known_types = Types(types)
        structs = Structs(known_types)
        caches = CacheTypes(read, known_types, structs, slabinfo.read_aliases())
        names = symbols.read(read_text("/proc/iomem") or "")
        found = naming.name(kernel, read, caches, structs, names, SETTINGS, 256 << 20)
    numbers, offsets = found.subjects.find(np.array(addresses, np.uint64))
    assert not offsets[numbers != NONE].any()
    assert (numbers != NONE).all()
    result: list[Answer | None] = []
    for number in found.labels[numbers].tolist():
        label = found.known[number]
        type_ = structs.name(label.struct) if label.struct else None
        result.append(None if number == NONE else Answer(label.text, label.module, type_))
    return result


def right(struct: str, answer: Answer) -> bool:
    """Whether this says whose an object of this struct is."""
    if answer.type is not None:
        return answer.type == struct
    if struct in BY_MODULE:
        return answer.module == module.NAME
    return re.search(BY_MEMBER.get(struct, PARENT), answer.text) is not None


def test_planted_objects_are_grouped_with_the_right_module_or_member(
    named: Answers, record_property: Callable[[str, object], None]
) -> None:
    """Of those with any evidence at least 99 % rightly, of all at most 1 % wrongly."""
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    for each, answer in named.items():
        if each.struct != RAW and answer is None:
            outcomes[each.struct]["nothing"] += 1
        elif each.struct != RAW and answer is not None:
            text = "right" if right(each.struct, answer) else answer.text
            outcomes[each.struct][text] += 1
    total = sum((counts for counts in outcomes.values()), Counter[str]())
    wrong = total.total() - total["right"] - total["nothing"]
    wrongly = {struct: counts for struct, counts in outcomes.items() if set(counts) != {"right"}}
    record_property("planted", total.total())
    record_property("right", total["right"])
    record_property("wrong", wrong)
    assert total["right"] >= 0.99 * total.total(), wrongly
    assert wrong <= 0.01 * total.total(), wrongly


def test_of_raw_bytes_nothing_is_known(named: Answers) -> None:
    answers_ = [answer for each, answer in named.items() if each.struct == RAW]
    known = Counter(answer.text for answer in answers_ if answer is not None)
    assert len(answers_) > 700
    assert known.total() <= 0.01 * len(answers_), known


def test_structs_of_planted_objects(
    request: pytest.FixtureRequest,
    named: Answers,
    record_property: Callable[[str, object], None],
) -> None:
    """Next to nothing is said to be of a struct that it is not of, and nearly all whose struct can
    be known is named so."""
    typed = {each: answer.type for each, answer in named.items() if answer and answer.type}
    wrong = Counter((each.struct, type_) for each, type_ in typed.items() if type_ != each.struct)
    assert wrong.total() <= 0.01 * len(named), wrong
    if "with_types" in request.node.callspec.id:
        expected = Counter(each.struct for each in named if each.struct in BY_PARENT)
        found = Counter(each.struct for each, type_ in typed.items() if type_ == each.struct)
        recall = sum(found[struct] for struct in expected) / expected.total()
        precision = 1 - wrong.total() / len(typed)
        record_property("precision", precision)
        record_property("recall", recall)
        assert precision >= 0.99, wrong
        assert recall >= 0.95, (expected, found)


def test_most_bytes_of_generic_caches_are_named(
    record_property: Callable[[str, object], None],
) -> None:
    """On a system that has just started, of caches of kmalloc and page-backed kmalloc; those that
    are not named are listed by cache."""
    census = take_census(SETTINGS)
    total: Counter[str] = Counter()
    named: Counter[str] = Counter()
    for row in census.owners:
        if is_kmalloc(row.cache) or row.cache == LARGE_CACHE:
            total[row.cache] += row.bytes
            if row.certainty is not Certainty.UNKNOWN:
                named[row.cache] += row.bytes
    rest = total - named
    for cache, size in rest.most_common():
        print(f"{cache:20} {size:10,} of {total[cache]:12,} bytes not named")
    share = named.total() / total.total()
    print(f"{share:.1%} of {total.total():,} bytes named")
    record_property("named", share)
    record_property("unnamed_by_cache", json.dumps(dict(rest)))
    assert share >= 0.9
