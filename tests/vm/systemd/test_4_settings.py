# SPDX-License-Identifier: Apache-2.0
"""Settings that take effect, that need a restart, and that are wrong."""

from __future__ import annotations

import threading

from tests.vm.systemd import host
from tests.vm.systemd.story import Story, configure


def test_a_reload_says_what_it_did() -> None:
    configure("[tracking]\nsample_bytes = 4096\n")
    host.run("systemctl", "reload", "slabmon.service")
    host.wait_for(lambda: "changed: tracking.sample_bytes" in host.journal())
    host.wait_for(lambda: host.scrape()["slabmon_sample_bytes"] == 4096)


def test_other_settings_start_again_and_say_so(story: Story) -> None:
    configure("[tracking]\nsamples = 4096\n")
    host.run("systemctl", "restart", "slabmon.service")
    samples = host.scrape()
    since = "slabmon_tracking_since_seconds"
    assert samples[since] > story.samples[since]
    assert "SAMPLES was 131072, is 4096" in host.journal()


def test_a_bad_configuration_is_not_started_again_and_again() -> None:
    """Whatever asks for metrics meanwhile."""
    configure("[trackin]\n")
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(0.2):
            host.answers("/metrics", 1)

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        host.run("systemctl", "restart", "slabmon.service", check=False)
        host.wait_for(
            lambda: (
                host.show("ActiveState") == "failed"
                and host.show("ActiveState", "slabmon.socket") == "inactive"
            )
        )
    finally:
        over.set()
        scraper.join()
    assert host.journal().count("did you mean tracking?") == 1
    assert host.show("Result") == "exit-code"
    assert host.show("ActiveState") == "failed"
    configure("")
    host.run("systemctl", "start", "slabmon.service")
    assert host.scrape()["slabmon_up"] == 1
