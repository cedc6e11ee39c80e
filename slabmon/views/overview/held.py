# SPDX-License-Identifier: Apache-2.0
"""What each cache holds, whenever it was allocated: not shown, but kept over the window."""

from __future__ import annotations

from operator import attrgetter

from slabmon.views.view import View

HELD = View(
    name="held",
    title="what each cache holds",
    rows=lambda snapshot: snapshot.caches,
    key=attrgetter("name"),
    columns=(),
    brief=(),
    figure="held_bytes",
)
