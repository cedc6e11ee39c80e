# SPDX-License-Identifier: Apache-2.0
"""Settings of the property tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline: the machines that run this share their CPUs. Examples may share tmp_path and similar
# fixtures, since each example rewrites its files. Every run tries the same examples, so that a
# failure is due to a change; `make fuzz` looks for new ones.
_EXAMPLES = os.environ.get("SLABMON_EXAMPLES")
settings.register_profile(
    "unit",
    deadline=None,
    derandomize=not _EXAMPLES,
    max_examples=int(_EXAMPLES or 50),
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("unit")
