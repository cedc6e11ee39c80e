"""Settings of the property tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline: the machines that run this share their CPUs. tmp_path and the like are safe to
# share between examples, since each example writes its files anew.
settings.register_profile(
    "unit",
    deadline=None,
    max_examples=int(os.environ.get("SLABMON_EXAMPLES", "50")),
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("unit")
