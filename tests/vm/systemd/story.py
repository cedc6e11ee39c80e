# SPDX-License-Identifier: Apache-2.0
"""State shared by the chapters: the number of messages sent so far, and the last scrape."""

from __future__ import annotations

import os
from pathlib import Path

from tests.live.workload import messages
from tests.vm.systemd import host

HOW = os.environ.get("SLABMON_INSTALL", "deb")
CONFIGURATION = Path("/etc/slabmon/slabmon.toml")
DROP_INS = Path("/run/systemd/system/slabmon.service.d")
LENGTH = 900


def main_pid() -> int:
    return int(host.show("MainPID"))


def web_pids() -> list[int]:
    """The collector's children: the web process, and while it is replaced two of them."""
    pid = main_pid()
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def configure(text: str) -> None:
    CONFIGURATION.write_text(text)


class Story:
    """`sent` messages so far; `samples` of the last scrape."""

    def __init__(self) -> None:
        self.sent = 0
        self.samples: dict[str, float] = {}

    def send(self, count: int) -> None:
        with messages() as queue:
            queue.churn(count, LENGTH)
        self.sent += count

    def check_that_counting_went_on(self) -> None:
        """Exactly what was sent, since the same moment, and no counter lower than before."""
        assert host.messages_sent(self.sent) == self.sent
        samples = host.scrape()
        since = "slabmon_tracking_since_seconds"
        assert samples[since] == self.samples[since]
        own = [
            "slabmon_process_",
            "slabmon_scrape_",
            "slabmon_web_",
            "slabmon_http_",
            "slabmon_folded_",
        ]
        if any(samples[f'slabmon_folded_series{{family="{f}"}}'] for f in ("cache", "site")):
            # Series are chosen again.
            own += ["slabmon_site_", "slabmon_cache_"]
        fallen = {
            name: (value, samples.get(name))
            for name, value in self.samples.items()
            if "_total" in name
            and not name.startswith(tuple(own))
            and samples.get(name, -1) < value
        }
        assert not fallen, fallen  # this module is not one whose assertions pytest rewrites
        assert samples['slabmon_feature_state{feature="state",state="on"}'] == 1
        self.samples = samples
