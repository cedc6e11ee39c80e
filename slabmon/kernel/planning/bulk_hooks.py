# SPDX-License-Identifier: Apache-2.0
"""Programs attached to allocator functions, where the tracepoints are blind.

kmem_cache_alloc_bulk() and kmem_cache_free_bulk() have no event, and neither has kfree_rcu(): its
batches end in kmem_cache_free_bulk(), and from 6.18 on many objects go to per-CPU sheaves through
__kfree_rcu_sheaf() instead (mm/slub.c, mm/slab_common.c).
"""

from __future__ import annotations

from collections.abc import Mapping

from slabmon.kernel.planning.part import Hook, Part, hooks_of
from slabmon.kernel.probe.facts import Facts
from slabmon.kernel.programs import BY_NAME
from slabmon.model import FeatureState, State

_NAMES = ("bulk_alloc", "bulk_free", "rcu_free")
_UNSEEN = "caches where such frees are seen to happen have frees_observable false"


def plan_bulk_hooks(facts: Facts) -> Part:
    """Return the hooks that this kernel allows."""
    reason = _unavailable(facts)
    hooks = {} if reason else hooks_of(facts, _NAMES)
    alloc = facts.functions[hooks["on_bulk_alloc"].function] if "on_bulk_alloc" in hooks else None
    return Part(
        features=_features(hooks, reason),
        hooks=hooks,
        defines={
            "HAVE_BULK_ALLOC": int(alloc is not None),
            # int, the number of objects, up to 7.0; bool since
            "BULK_RETURN_MASK": 0xFF if alloc and alloc.returns == "bool" else 0xFFFFFFFF,
            "NR_BULK_OWN_FRAMES": 3 if facts.machine == "aarch64" else 2,
            "HAVE_BULK_FREE": int("on_bulk_free" in hooks),
            "HAVE_RCU_SHEAVES": int("on_rcu_free" in hooks),
        },
    )


def refused(
    features: Mapping[str, FeatureState], reasons: Mapping[str, str]
) -> dict[str, FeatureState]:
    """Return the features that change because the kernel refused to attach these programs.

    `reasons` are by program name.
    """
    changed = {}
    for program, reason in reasons.items():
        feature = BY_NAME[program].feature
        if feature in _NAMES:
            changed[feature] = FeatureState(State.OFF, f"no tracepoint ({reason}): {_UNSEEN}")
    if "bulk_free" in changed and features["rcu_free"].state == State.ON:
        changed["rcu_free"] = changed["bulk_free"]
    return changed


def _unavailable(facts: Facts) -> str:
    """Return why no function can be hooked, or ""."""
    if not facts.recursion_guard:
        return "before 6.1 nothing keeps a program from running inside itself"
    if facts.fentry_refused:
        return f"the kernel refuses fentry programs: {facts.fentry_refused}"
    return ""


def _features(hooks: Mapping[str, Hook], reason: str) -> dict[str, FeatureState]:
    why = f"no tracepoint ({reason or 'BTF does not describe the functions'})"
    features = {
        "bulk_alloc": FeatureState(
            State.OFF, f"{why}: such objects are seen only when they are freed"
        ),
        "bulk_free": FeatureState(State.OFF, f"{why}: {_UNSEEN}"),
        "rcu_free": FeatureState(State.OFF, f"{why}: {_UNSEEN}"),
    }
    for program, hook in hooks.items():
        features[BY_NAME[program].feature] = FeatureState(
            State.ON, f"{hook.kind} of {hook.function}()"
        )
    if "on_bulk_free" in hooks and "on_rcu_free" not in hooks:
        how = f"batches of kfree_rcu() end in {hooks['on_bulk_free'].function}()"
        features["rcu_free"] = FeatureState(State.ON, how)
    return features
