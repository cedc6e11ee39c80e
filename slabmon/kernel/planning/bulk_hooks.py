# SPDX-License-Identifier: Apache-2.0
"""What closes the blind spots of the tracepoints: programs attached to the allocator's functions.

kmem_cache_alloc_bulk() and kmem_cache_free_bulk() have no event, nor has what kfree_rcu() frees:
its batches end in kmem_cache_free_bulk(), and from 6.18 on many objects go to per-CPU sheaves
through __kfree_rcu_sheaf() instead (mm/slub.c, mm/slab_common.c).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from slabmon.kernel.probe.facts import Facts
from slabmon.model import FeatureState, State

_ALLOC = ("kmem_cache_alloc_bulk_noprof", "kmem_cache_alloc_bulk")
_FREE = "kmem_cache_free_bulk"
_SHEAF = "__kfree_rcu_sheaf"
_UNSEEN = "caches where such frees are seen to happen have frees_observable false"


@dataclass(frozen=True)
class Hook:
    """A kernel function that a program is attached to, at its `kind`: fentry or fexit."""

    function: str
    btf_id: int
    kind: str


@dataclass(frozen=True)
class Closers:
    """Programs by name, what the sources need to know, and what is closed."""

    hooks: Mapping[str, Hook]
    defines: Mapping[str, int]
    features: Mapping[str, FeatureState]


def plan_closers(facts: Facts) -> Closers:
    """Those that this kernel allows."""
    reason = _unavailable(facts)
    known = {} if reason else facts.functions
    alloc_name = next((name for name in _ALLOC if name in known), "")
    alloc, free, sheaf = known.get(alloc_name), known.get(_FREE), known.get(_SHEAF)
    hooks = {}
    if alloc:
        hooks["on_bulk_alloc"] = Hook(alloc_name, alloc.btf_id, "fexit")
    if free:
        hooks["on_bulk_free"] = Hook(_FREE, free.btf_id, "fentry")
    if sheaf:
        hooks["on_rcu_free"] = Hook(_SHEAF, sheaf.btf_id, "fexit")
    defines = {
        "HAVE_BULK_ALLOC": int(alloc is not None),
        # int, the number of objects, up to 7.0; bool since
        "BULK_RETURN_MASK": 0xFF if alloc and alloc.returns == "bool" else 0xFFFFFFFF,
        "NR_BULK_OWN_FRAMES": 3 if facts.machine == "aarch64" else 2,
        "HAVE_BULK_FREE": int(free is not None),
        "HAVE_RCU_SHEAVES": int(sheaf is not None),
    }
    return Closers(hooks, defines, _features(facts, hooks, reason))


def refused(
    features: Mapping[str, FeatureState], reasons: Mapping[str, str]
) -> dict[str, FeatureState]:
    """What becomes of the features where the kernel refuses these programs after all."""
    found = {}
    for program, reason in reasons.items():
        name = program.removeprefix("on_")
        found[name] = FeatureState(State.OFF, f"no tracepoint ({reason}): {_UNSEEN}")
    if "bulk_free" in found and features["rcu_free"].state == State.ON:
        found["rcu_free"] = found["bulk_free"]
    return found


def _unavailable(facts: Facts) -> str:
    """Why there are none; "" when the functions that BTF describes can be used."""
    if not facts.recursion_guard:
        return "before 6.1 nothing keeps a program from running inside itself"
    if facts.fentry_refused:
        return f"the kernel refuses fentry programs: {facts.fentry_refused}"
    return ""


def _features(facts: Facts, hooks: Mapping[str, Hook], reason: str) -> dict[str, FeatureState]:
    why = f"no tracepoint ({reason or 'BTF does not describe the functions'})"
    features = {
        "bulk_alloc": FeatureState(
            State.OFF, f"{why}: such objects are seen only when they are freed"
        ),
        "bulk_free": FeatureState(State.OFF, f"{why}: {_UNSEEN}"),
        "rcu_free": FeatureState(State.OFF, f"{why}: {_UNSEEN}"),
    }
    for program, hook in hooks.items():
        feature = FeatureState(State.ON, f"{hook.kind} of {hook.function}()")
        features[program.removeprefix("on_")] = feature
    if "on_bulk_free" in hooks and _SHEAF not in facts.functions:
        features["rcu_free"] = FeatureState(State.ON, f"batches of kfree_rcu() end in {_FREE}()")
    return features
