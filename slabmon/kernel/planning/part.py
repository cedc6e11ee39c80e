# SPDX-License-Identifier: Apache-2.0
"""The share of one capability in a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
