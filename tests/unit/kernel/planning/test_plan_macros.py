# SPDX-License-Identifier: Apache-2.0
"""Every macro the BPF programs leave to the plan is defined by it, on every kind of host."""

from __future__ import annotations

import re

import pytest

from slabmon.kernel.bpf.sources import BPF_DIR
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.exact_target import Target
from slabmon.kernel.planning.plan import make_plan
from slabmon.kernel.settings import Settings
from tests.support.hosts import KERNELS, facts, inline_lookup
from tests.support.preprocessor import preprocessed

EXACT = Settings(exact=Filter(cache="a", module="m"), pages=True, stack_frames=0)
PLANS = {
    **{kernel: make_plan(facts(kernel), Settings()) for kernel in KERNELS},
    **{f"{k}, two nodes": make_plan(facts(k, nodes=2), Settings(pages=True)) for k in KERNELS},
    "nothing resolvable": make_plan(facts("6.12", page_symbols=False, kallsyms=False), Settings()),
    "random kmalloc caches": make_plan(facts(site_decides_cache=False), Settings()),
    "no fentry": make_plan(facts(fentry_refused="Operation not permitted"), Settings()),
    "struct pages": make_plan(inline_lookup(), Settings()),
    "process tree": make_plan(facts(), Settings(exact=Filter(process_tree=77))),
    "exact": make_plan(facts(), EXACT, Target(caches=("a",), cgroup=1 << 40, pid=1)),
}
OWN = (
    "HAVE_",
    "NR_",
    "OFF_",
    "ARG_",
    "EXACT_",
    "PAGE_",
    "KFUNC_",
    "BTF_",
    "BULK_",
    "DEVRES_",
)


def enumerators(text: str) -> set[str]:
    """Words in the bodies of enums."""
    return set(re.findall(r"\w+", " ".join(re.findall(r"\benum \w+ \{(.*?)\};", text, re.S))))


@pytest.mark.parametrize("name", PLANS)
def test_no_macro_is_left_undefined(name: str) -> None:
    text = re.sub(r'"[^"]*"', "", preprocessed(PLANS[name]))
    capitals = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", text))
    capitals -= enumerators(text)
    # Helpers of bcc's own headers remain.
    left = {word for word in capitals if not word.startswith("BPF_")}
    assert left == set()


@pytest.mark.parametrize("name", PLANS)
def test_every_program_that_is_attached_or_run_is_compiled(name: str) -> None:
    plan = PLANS[name]
    functions = set(
        re.findall(r"^int (\w+)\(struct bpf_raw_tracepoint_args", preprocessed(plan), re.M)
    )
    assert {*plan.attach.values(), *plan.run, *plan.hooks} <= functions


@pytest.mark.parametrize("name", PLANS)
def test_what_is_defined_is_an_integer_that_c_can_take(name: str) -> None:
    for macro, value in PLANS[name].defines.items():
        assert type(value) is int, macro
        assert 0 <= value < 1 << 64, macro


def test_nothing_is_defined_that_no_program_uses() -> None:
    source = "".join(path.read_text() for path in sorted(BPF_DIR.glob("*.[ch]")))
    words = set(re.findall(r"\w+", source))
    for plan in PLANS.values():
        assert not set(plan.defines) - words


def test_each_host_specific_macro_of_the_sources_is_defined_by_some_plan() -> None:
    """Without the preprocessor: no name is misspelled on either side."""
    defined = set().union(*(plan.defines for plan in PLANS.values()))
    for path in sorted(BPF_DIR.glob("*.[ch]")):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        local = set(re.findall(r"#define (\w+)", text)) | enumerators(text)
        local |= set(re.findall(r"LOSS\(\w+, (\w+)\)", text))
        used = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", text)) - local
        used = {word for word in used if word.startswith(OWN) and "##" not in word}
        assert {w for w in used if not w.endswith("_")} - defined == set(), path.name
