# SPDX-License-Identifier: Apache-2.0
"""A tracking session whose state outlives it: `python -m tests.live.kept_session DIRECTORY
SAMPLES`. One line of standard input asks for a snapshot as JSON; its end ends the session."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from slabmon.export.text import to_json
from slabmon.kernel.session import open_tracker
from slabmon.kernel.settings import Settings
from slabmon.state.continuity import Continuity
from slabmon.state.descriptor_store import Pins


def main() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    continuity = Continuity(Pins(Path(sys.argv[1])))
    settings = Settings(samples=int(sys.argv[2]))
    with open_tracker(settings, continuity) as tracker:
        print("tracking", flush=True)
        for _ in sys.stdin:
            print(" ".join(to_json(tracker.snapshot()).split()), flush=True)
    continuity.close(requested=True)


if __name__ == "__main__":
    main()
