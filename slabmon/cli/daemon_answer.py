# SPDX-License-Identifier: Apache-2.0
"""Answers for which a daemon first has to read memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from slabmon.sources.daemon import DaemonSource

# How long a daemon may take and how often it is asked. One that wants to be asked again later than
# SOON_SECONDS does not read memory now.
DAEMON_SECONDS, AGAIN_SECONDS, SOON_SECONDS = 300.0, 0.25, 5.0
_Answer = TypeVar("_Answer")


def wait_for(
    url: str,
    ca_file: Path | None,
    ask: Callable[[DaemonSource], _Answer],
    progress: Callable[[float], object],
) -> _Answer:
    """Return what `ask` returns, asking until the daemon is ready. Raises NotReady if it is not
    within DAEMON_SECONDS, or does not even begin."""
    from slabmon.sources.daemon import DaemonSource, NotReady

    deadline = time.monotonic() + DAEMON_SECONDS
    with DaemonSource(url, ca_file) as source:
        while True:
            try:
                return ask(source)
            except NotReady as error:
                if error.seconds > SOON_SECONDS or time.monotonic() >= deadline:
                    raise
            progress(0.0)
            time.sleep(AGAIN_SECONDS)
