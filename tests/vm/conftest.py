# SPDX-License-Identifier: Apache-2.0
"""Host-side pytest collects the harness's own tests; those of guest/ run inside a guest."""

from __future__ import annotations

import os

collect_ignore = [] if "SLABMON_VM_GUEST" in os.environ else ["guest", "settings", "systemd"]
