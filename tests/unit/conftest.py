# SPDX-License-Identifier: Apache-2.0
"""Settings of the property tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline: the machines that run this share their CPUs. tmp_path and the like are safe to
# share between examples, since each example writes its files anew. The same examples in each run,
# so that a failure is of what changed; `make fuzz` looks for new ones.
_WANTED = os.environ.get("SLABMON_EXAMPLES")
settings.register_profile(
    "unit",
    deadline=None,
    derandomize=not _WANTED,
    max_examples=int(_WANTED or 50),
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("unit")
