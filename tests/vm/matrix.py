# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.vm.matrix > docs/support-matrix.md`: kernel by feature, from guest runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tests.vm.results import load

# The statement that each test function proves, in the order of the table.
PROVES = (
    (
        "allocations, failures, bytes and size classes per call site",
        "test_slabmon::test_call_sites_equal_what_was_planted",
    ),
    (
        "live objects and bytes per call site and cache, exact mode",
        "test_slabmon::test_live_objects_by_site_and_cache_are_exact",
    ),
    ("allocations, frees and bytes per cache", "test_slabmon::test_caches_of_the_module_are_exact"),
    (
        "live objects of a cache, as /proc/slabinfo counts them",
        "test_slabmon::test_slabinfo_counts_the_same_objects",
    ),
    (
        "DMA memory by device, through frees, failures and removal",
        "test_dma::test_each_device_is_counted_exactly",
    ),
    (
        "what drivers allocated by plain kmalloc() is their devices', nothing else is",
        "test_census_devices::test_old_and_new_objects_of_drivers_are_their_devices",
    ),
    ("GFP classes", "test_slabmon::test_gfp_classes_are_those_planted"),
    ("GFP modifiers", "test_slabmon::test_gfp_modifiers_are_those_planted"),
    (
        "all CPUs at once, from tasks, hard and soft interrupts",
        "test_storm::test_storms_are_counted_exactly",
    ),
    (
        "a leak by module, call site and bytes, beside churn that balances",
        "test_slabmon::test_a_leak_stands_out_of_churn",
    ),
    (
        "the same, named by `slabmon leaks` with module, call site and devices, and nothing else",
        "test_leaks::test_the_planted_leak_is_named_and_the_churn_is_not",
    ),
    (
        "resources, bytes and memory per device, through bind, failed probe and removal",
        "test_slabmon::test_the_device_ledger_is_the_modules_locked_walk_after_each_step",
    ),
    (
        "the same through unbinding, rebinding, and the module taken away",
        "test_ledger::test_bind_unbind_rebind_failure_and_removal",
    ),
    (
        "resources added to a device minus those removed are those it holds",
        "test_slabmon::test_planted_devices_add_up",
    ),
    (
        "resources of devices bound before slabmon started",
        "test_hardware::test_devices_bound_before_tracking_are_complete",
    ),
    ("real drivers unbound and bound again", "test_hardware::test_unbind_and_rebind"),
    (
        "resources of all devices, as drgn reads them",
        "test_drgn::test_managed_resources_of_all_devices",
    ),
    ("caches and object sizes, as drgn reads them", "test_drgn::test_caches_and_their_sizes"),
    ("objects of a cache, as drgn counts them", "test_drgn::test_objects_of_a_cache"),
    (
        "call sites of modules that come and go",
        "test_modules::test_reloaded_modules_keep_their_own_sites",
    ),
    (
        "memory that a module holds for its lifetime",
        "test_modules::test_what_a_module_allocates_for_its_life_is_live_until_it_goes",
    ),
    ("live objects through bulk and RCU frees", "test_closers::test_live_objects_are_exact"),
    (
        "`frees_observable` is false where frees happen that no program sees, and only there",
        "test_closers::test_frees_that_no_program_sees_are_found_out",
    ),
    (
        "the same where the kernel has the functions but refuses the programs",
        "test_closers::test_where_the_kernel_refuses_the_programs_frees_are_found_out",
    ),
    (
        "counting continues after a daemon is killed; a stopped one leaves nothing in the kernel",
        "test_lifecycle::test_a_killed_daemon_goes_on_and_a_stopped_one_leaves_nothing",
    ),
    ("killed while loading, it leaves nothing", "test_lifecycle::test_killed_while_it_loads"),
    (
        "interrupted, it leaves nothing",
        "test_lifecycle::test_an_interrupted_snapshot_leaves_nothing",
    ),
)
CHECK = "test_check::test_each_gap_is_named"
STORM = "test_storm::test_storms_are_counted_exactly"
HARDWARE = "test_hardware::test_unbind_and_rebind"
INTRODUCTION = """\
# Support matrix

Generated from guest runs on stock Debian kernels (`python -m tests.vm.matrix`); the facts are in
`tests/vm/results`. "Exact" means equal to the counts that the planted kernel module published of
its own allocations: every count and every byte. No run left a warning in a kernel's log.
"BPF sources" is the digest of the `bpf/` that a run was made with.
"""


def render(kernels: list[dict[str, Any]]) -> str:
    """The document as Markdown."""
    names = [kernel["kernel"] for kernel in kernels]
    lines = [INTRODUCTION]
    lines += _table(
        ("kernel", "release", "tests passed", "skipped", "BPF sources"),
        (
            (k["kernel"], k["release"], _total(k, "passed"), _total(k, "skipped"), _sources(k))
            for k in kernels
        ),
    )
    lines += ["## Features", "", "As `slabmon check` reports them.", ""]
    lines += _features(kernels)
    lines += ["## Proven", "", "Numbers of test cases that passed.", ""]
    lines += _table(
        ("statement, exactly", *names),
        ((what, *(_outcome(kernel, test) for kernel in kernels)) for what, test in PROVES),
    )
    lines += _skips(kernels)
    lines += ["## Measured", "", "Every CPU allocating at once (`test_storm`).", ""]
    lines += _table(("", *names), _storm(kernels))
    lines += ["Managed resources of a device of each driver, and their bytes: slabmon's ledger,"]
    lines += ["equal to the kernel's own lists before, after unbinding and after rebinding.", ""]
    lines += _table(("driver", *names), _hardware(kernels))
    return "\n".join(lines).rstrip() + "\n"


def _table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    titles = [str(cell) for cell in head]
    lines = [titles, ["---"] * len(titles), *([str(cell) for cell in row] for row in rows)]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def sources(kernel: dict[str, Any]) -> list[str]:
    """Return the digests of the BPF sources that the results of a kernel are of."""
    return sorted({entry["sources"] for entry in kernel["tests"].values()})


def _sources(kernel: dict[str, Any]) -> str:
    return ", ".join(f"`{digest[:12]}`" for digest in sources(kernel))


def _total(kernel: dict[str, Any], outcome: str) -> int:
    return sum(entry[outcome] for entry in kernel["tests"].values())


def _measured(kernel: dict[str, Any], test: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = kernel["tests"].get(test, {}).get("measured", {})
    return found


def _features(kernels: list[dict[str, Any]]) -> list[str]:
    """A row per feature; then each reduced one with its reason and where it applies."""
    states = [_measured(kernel, CHECK).get("", {}).get("features", {}) for kernel in kernels]
    features = list(dict.fromkeys(name for state in states for name in state))
    lines = _table(
        ("feature", *(kernel["kernel"] for kernel in kernels)),
        ((name, *(state.get(name, {}).get("state", "") for state in states)) for name in features),
    )
    for name in features:
        reasons: dict[tuple[str, str], list[str]] = {}
        for kernel, state in zip(kernels, states, strict=True):
            entry = state.get(name, {"state": "on"})
            if entry["state"] != "on":
                reasons.setdefault((entry["state"], entry["reason"]), []).append(kernel["kernel"])
        for (state, reason), where in reasons.items():
            lines.append(f"- **{name}** {state} on {', '.join(where)}: {reason}")
    return [*lines, ""]


def _outcome(kernel: dict[str, Any], test: str) -> str:
    entry = kernel["tests"].get(test, {"passed": 0, "failed": 0})
    if entry["failed"]:
        return f"**{entry['failed']} failed**"
    return str(entry["passed"]) if entry["passed"] else "-"


def _skips(kernels: list[dict[str, Any]]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for kernel in kernels:
        found = {reason for entry in kernel["tests"].values() for reason in entry["reasons"]}
        for reason in sorted(found):
            reasons.setdefault(reason.replace(f" on {kernel['release']}", ""), []).append(
                kernel["kernel"]
            )
    return ["Not run:", "", *(f"- {', '.join(w)}: {r}" for r, w in reasons.items()), ""]


def _storm(kernels: list[dict[str, Any]]) -> Iterable[list[object]]:
    measured = [_measured(kernel, STORM).get("", {}) for kernel in kernels]
    for name in dict.fromkeys(name for entry in measured for name in entry):
        yield [name.replace("_", " "), *(entry.get(name, "-") for entry in measured)]


def _hardware(kernels: list[dict[str, Any]]) -> Iterable[list[object]]:
    measured = [_measured(kernel, HARDWARE) for kernel in kernels]
    for name in dict.fromkeys(name for entry in measured for name in entry):
        row: list[object] = [name]
        for entry in measured:
            found = entry.get(name)
            row.append(f"{found['resources']}, {found['managed_bytes']} B" if found else "-")
        yield row


if __name__ == "__main__":
    sys.stdout.write(render(load()))
