# SPDX-License-Identifier: Apache-2.0
"""What a census says of planted objects of known structs, object by object, and how much of a
freshly booted system's generic caches it names."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping

import pytest

from slabmon.base.names import is_kmalloc
from slabmon.census.model import Certainty
from slabmon.kernel.census.run import take_census
from slabmon.kernel.census.settings import CensusSettings
from slabmon.model import LARGE_CACHE
from tests.vm.guest import planted as module
from tests.vm.guest.census import Answer, named_objects

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
# Reached from a struct that a cache is named after, where the module has types: by a list, hash or
# tree with its head there, through an XArray or a maple tree of which another member points to one
# object, by what lies inside, by an array at the end of a struct, and by an array of pointers.
BY_HUB = (
    *("planted_listed_first", "planted_listed_middle", "planted_listed_last", "planted_hashed"),
    *("planted_sorted", "planted_entry", "planted_mapled", "planted_boxed", "planted_box_content"),
    *("planted_many", "planted_element", "planted_celled"),
)
# Structs of the kernel: by a pointer, a union, a list, a function, a table of functions, by what
# lies inside.
OF_KERNEL = (
    *("cdev", "delayed_work", "dev_pm_domain", "device_private", "kobject", "platform_object"),
    "wakeup_source",
)
RAW = "raw"


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
        yield dict(
            zip(objects, named_objects().at([each.address for each in objects]), strict=True)
        )
    finally:
        module.run("typed_remove")
        module.unload()


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
        if each.struct in (*OF_KERNEL, *BY_HUB, RAW):
            continue
        if answer is None:
            outcomes[each.struct]["nothing"] += 1
        else:
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
    be known is named so: the kernel's, and, if the module has types, those to which a struct leads
    that a cache is named after. The others are held by nothing that has a type."""
    with_types = "with_types" in request.node.callspec.id
    knowable = (*OF_KERNEL, *BY_PARENT, *BY_HUB) if with_types else OF_KERNEL
    typed = {each: answer.type for each, answer in named.items() if answer and answer.type}
    wrong = Counter((each.struct, type_) for each, type_ in typed.items() if type_ != each.struct)
    expected = Counter(each.struct for each in named if each.struct in knowable)
    found = Counter(each.struct for each, type_ in typed.items() if type_ == each.struct)
    missed = {
        struct: Counter(
            answer.text if answer else "unknown"
            for each, answer in named.items()
            if each.struct == struct and each not in typed
        )
        for struct, count in expected.items()
        if found[struct] < count
    }
    recall = sum(found[struct] for struct in expected) / expected.total()
    precision = 1 - wrong.total() / len(typed)
    structs = Counter(each.struct for each in named if each.struct != RAW)
    print(f"precision {precision:.4f} of {len(typed)}, recall {recall:.4f} of {expected.total()}")
    print(f"{structs.total() - expected.total()} of {structs.total()} cannot be known")
    print("wrong:", wrong.most_common(), "missed:", missed)
    record_property("precision", precision)
    record_property("recall", recall)
    record_property("knowable", expected.total())
    record_property("not_knowable", structs.total() - expected.total())
    assert set(expected) == set(structs) & set(knowable)
    assert precision >= 0.99, wrong
    assert recall >= 0.95, missed


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
