# SPDX-License-Identifier: Apache-2.0
"""The share of one capability in a plan."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from slabmon.kernel.probe.facts import Facts
from slabmon.kernel.programs import PROGRAMS
from slabmon.model import FeatureState


@dataclass(frozen=True)
class Hook:
    """A kernel function that a program is attached to as `kind`: fentry or fexit."""

    function: str
    btf_id: int
    kind: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """One capability's contribution to a plan, and its state.

    Programs of a feature that is off, or listed in `unused`, are not attached. `hooks` are by
    program, `run` are programs the daemon runs itself.
    """

    features: Mapping[str, FeatureState] = field(default_factory=dict)
    defines: Mapping[str, int] = field(default_factory=dict)
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    run: tuple[str, ...] = ()
    unused: frozenset[str] = frozenset()


def hooks_of(facts: Facts, features: Container[str]) -> dict[str, Hook]:
    """Return the hooks of these features' programs for which the kernel has a function."""
    hooks = {}
    for spec in PROGRAMS:
        name = next((name for name in spec.functions if name in facts.functions), None)
        if name is not None and spec.feature in features:
            hooks[spec.name] = Hook(name, facts.functions[name].btf_id, spec.kind)
    return hooks
