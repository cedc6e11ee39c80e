# SPDX-License-Identifier: Apache-2.0
"""Results that are committed, and the code they were taken of."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable

from slabmon.state.fingerprint import sources_digest


class StaleResultsWarning(UserWarning):
    """Committed results are of other sources than those of this checkout."""


def warn_of_other_sources(
    name: str, digests: Iterable[str], command: str, present: str | None = None
) -> None:
    """Warn if results are of other sources than `present`, the digest of the BPF sources if it is
    not given; fail if a digest is not one (SHA-256)."""
    digests = set(digests)
    assert digests
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
    if stale := digests - {present or sources_digest()}:
        old = ", ".join(sorted(digest[:12] for digest in stale))
        warnings.warn(
            StaleResultsWarning(f"{name}: taken of sources {old}, not these; run `{command}`"),
            stacklevel=2,
        )
