# SPDX-License-Identifier: Apache-2.0
"""Live memory by the cgroup that is charged for it, on hosts whose memory cgroups are of v1."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from slabmon.analysis.grouping import group_live
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.model import Snapshot, State
from tests.live.cgroups import V1, memory_cgroups, watched

pytestmark = [
    pytest.mark.live,
    pytest.mark.beside,
    pytest.mark.skipif(
        not (V1 / "memory.limit_in_bytes").exists(), reason="no memory cgroups of v1"
    ),
]

FILES = 211  # prime
EVENTS = "inotify_handle"  # the function that allocates them


def events(snapshot: Snapshot) -> Counter[str]:
    """Live events of inotify by cgroup."""
    found: Counter[str] = Counter()
    for group in group_live(snapshot, ("site", "cgroup")):
        site, cgroup = group.labels
        if site.startswith(EVENTS):
            found[cgroup] += group.live.objects
    return found


@pytest.mark.parametrize("of", ["parent", "watcher", "maker"])
def test_objects_are_of_the_cgroup_that_is_charged(tmp_path: Path, of: str) -> None:
    """A filter follows it, too, below the cgroup that it names."""
    with memory_cgroups(V1, 2) as (watcher, maker):
        named = {"parent": watcher.parent, "watcher": watcher, "maker": maker}[of]
        settings = Settings(exact=Filter(cgroup=f"/{named.relative_to(V1)}"))
        with open_tracker(settings) as tracker, watched(watcher, maker, tmp_path, FILES):
            snapshot = tracker.snapshot(details=True)
    assert tracker.features["cgroups"].state == State.ON
    charged = {} if of == "maker" else {f"/{watcher.relative_to(V1)}": FILES}
    assert events(snapshot) == charged
    inside = {"parent": (watcher, maker)}.get(of, (named,))
    names = {f"/{path.relative_to(V1)}" for path in inside}
    assert set(snapshot.tracked.cgroups.values()) == names
