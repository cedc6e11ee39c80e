# SPDX-License-Identifier: Apache-2.0
"""The text of the BPF programs after the preprocessor."""

from __future__ import annotations

from slabmon.kernel.bpf.sources import BPF_DIR
from slabmon.kernel.loading.compile_child import map_constants
from slabmon.kernel.loading.loader import map_names
from slabmon.kernel.planning.plan import Plan
from tests.support import gcc


def preprocessed(plan: Plan) -> str:
    """Return the sources with a plan's macros. One used in #if but not defined is an error."""
    defines = {**plan.defines, **map_constants(map_names(plan))}
    options = ["-E", "-P", "-Wundef", "-Werror", f"-I{BPF_DIR}", *gcc.defines(defines)]
    return gcc.run([*options, str(BPF_DIR / "slabmon.bpf.c")])
