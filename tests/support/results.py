# SPDX-License-Identifier: Apache-2.0
"""Results that are committed, and the code they were taken of."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable

from slabmon.state.fingerprint import sources_digest


class StaleResultsWarning(UserWarning):
    """Committed results are of other BPF sources than those of this checkout."""


def warn_of_other_sources(name: str, digests: Iterable[str], command: str) -> None:
    """Warn if results are of other BPF sources; fail if a digest is not one (SHA-256)."""
    digests = set(digests)
    assert digests
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
    if stale := digests - {sources_digest()}:
        old = ", ".join(sorted(digest[:12] for digest in stale))
        warnings.warn(
            StaleResultsWarning(f"{name}: taken of BPF sources {old}, not these; run `{command}`"),
            stacklevel=2,
        )
