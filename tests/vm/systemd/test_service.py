"""The service from installation to removal. The tests are one story, told in order."""

from __future__ import annotations

import json
import os
import pwd
import signal
from pathlib import Path

import pytest

from tests.live.kernel import program_names
from tests.live.workload import messages
from tests.vm.systemd import host

BEFORE, RESTART, CRASH, HANG = 1009, 2003, 499, 1511  # primes, sent in each chapter
HOW = os.environ.get("SLABMON_INSTALL", "deb")
LENGTH = 900
CAPABILITIES = (6, 7, 21, 34, 38, 39)  # SETGID, SETUID, SYS_ADMIN, SYSLOG, PERFMON, BPF
DROP_INS = Path("/run/systemd/system/slabmon.service.d")


def ours() -> set[str]:
    return {name for name in program_names() if name.startswith(("on_", "walk_devices"))}


class Story:
    """What the chapters before have seen."""

    sent = 0
    samples: dict[str, float]


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


def send(story: Story, count: int) -> None:
    with messages() as queue:
        queue.churn(count, LENGTH)
    story.sent += count


def main_pid() -> int:
    return int(host.show("MainPID"))


def check_that_counting_went_on(story: Story) -> None:
    """Exactly what was sent, since the same moment, and no counter lower than before."""
    assert host.messages_sent(story.sent) == story.sent
    samples = host.scrape()
    since = "slabmon_tracking_since_seconds"
    assert samples[since] == story.samples[since]
    own = ["slabmon_process_", "slabmon_scrape_", "slabmon_web_", "slabmon_http_"]
    if any(samples[f'slabmon_folded_series{{family="{f}"}}'] for f in ("cache", "site")):
        own += ["slabmon_site_", "slabmon_cache_"]  # which have series of their own is chosen anew
    fallen = {name: (value, samples.get(name)) for name, value in story.samples.items()
              if "_total" in name and not name.startswith(tuple(own))
              and samples.get(name, -1) < value}  # fmt: skip
    assert not fallen
    assert samples['slabmon_feature_state{feature="state",state="on"}'] == 1
    story.samples = samples


def test_it_is_installed() -> None:
    Path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)  # the root was made in a chroot
    DROP_INS.mkdir(parents=True)
    (DROP_INS / "emulation.conf").write_text("[Service]\nTimeoutStartSec=600\n")
    if HOW == "deb":
        host.run("make", "deb")
        (package,) = (host.PROJECT / "build").glob("*.deb")
        host.run("dpkg", "--install", str(package))
        assert Path("/usr/bin/slabmon").exists()
    else:  # `make install` was run into a directory of the host
        host.run("cp", "-a", "/vm/share/.", "/")
        host.run("systemd-sysusers", "slabmon.conf")
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "enable", "--now", "slabmon.service")
    assert "slabmon" in Path("/etc/passwd").read_text()
    assert host.show("UnitFileState") == "enabled"


def test_it_starts_and_is_scraped(story: Story) -> None:
    host.wait_for(host.running)
    assert host.show("StatusText").startswith("Tracking since")
    story.samples = host.scrape()
    assert host.messages_sent(0) == 0
    assert story.samples["slabmon_tracking_since_seconds"] > 0
    send(story, BEFORE)
    check_that_counting_went_on(story)


def test_it_has_no_more_rights_than_it_says() -> None:
    assert host.security() <= 2.5
    pid = main_pid()
    wanted = sum(1 << number for number in CAPABILITIES)
    assert f"CapBnd:\t{wanted:016x}\n" in Path(f"/proc/{pid}/status").read_text()
    (web,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    status = Path(f"/proc/{web}/status").read_text()
    assert "CapEff:\t0000000000000000\n" in status
    assert f"Uid:\t{pwd.getpwnam('slabmon').pw_uid}\t" in status


def test_every_feature_of_this_kernel_works_inside_the_sandbox() -> None:
    inside = host.snapshot()["features"]
    outside = host.run("slabmon", "check", "--format", "json")
    for name, feature in json.loads(outside)["features"].items():
        assert inside[name]["state"] == feature["state"], (name, inside[name])
    assert host.snapshot()["devices"]
    assert host.scrape()["slabmon_bpf_memory_bytes"] > 1 << 20


def test_a_restart_goes_on_counting(story: Story) -> None:
    old = main_pid()
    host.run("systemctl", "restart", "slabmon.service")
    assert main_pid() != old
    send(story, RESTART)
    check_that_counting_went_on(story)
    assert "counting goes on" in host.journal()


def test_kill_9_goes_on_counting(story: Story) -> None:
    old = main_pid()
    os.kill(old, signal.SIGKILL)
    send(story, CRASH)  # no daemon runs, or is just starting
    host.wait_for(lambda: host.running() and main_pid() != old)
    check_that_counting_went_on(story)
    assert int(host.show("NRestarts")) == 1


def test_the_watchdog_ends_a_daemon_that_hangs(story: Story) -> None:
    drop_in = DROP_INS / "watchdog.conf"
    drop_in.write_text("[Service]\nWatchdogSec=20\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "slabmon.service")
    old = main_pid()
    os.kill(old, signal.SIGSTOP)
    send(story, HANG)
    host.wait_for(lambda: host.running() and main_pid() != old)
    assert "Watchdog timeout" in host.journal()
    check_that_counting_went_on(story)
    drop_in.unlink()
    host.run("systemctl", "daemon-reload")


def test_a_second_daemon_is_refused() -> None:
    said = host.run("slabmon", "serve", check=False)
    assert f"process {main_pid()} " in said


def test_a_reload_says_what_it_did() -> None:
    Path("/etc/slabmon/slabmon.toml").write_text("[tracking]\nsample_bytes = 4096\n")
    host.run("systemctl", "reload", "slabmon.service")
    host.wait_for(lambda: "changed: tracking.sample_bytes" in host.journal())


def test_other_settings_start_again_and_say_so(story: Story) -> None:
    Path("/etc/slabmon/slabmon.toml").write_text("[tracking]\nsamples = 4096\n")
    host.run("systemctl", "restart", "slabmon.service")
    samples = host.scrape()
    since = "slabmon_tracking_since_seconds"
    assert samples[since] > story.samples[since]
    assert "SAMPLES was 131072, is 4096" in host.journal()


def test_a_bad_configuration_is_not_started_again_and_again() -> None:
    Path("/etc/slabmon/slabmon.toml").write_text("[trackin]\n")
    host.run("systemctl", "restart", "slabmon.service", check=False)
    host.wait_for(lambda: host.show("ActiveState") == "failed")
    assert "did you mean tracking?" in host.journal()
    assert host.show("Result") == "exit-code"
    Path("/etc/slabmon/slabmon.toml").write_text("")
    host.run("systemctl", "start", "slabmon.service")


def test_a_stop_leaves_nothing() -> None:
    assert ours()
    host.run("systemctl", "stop", "slabmon.service")
    host.wait_for(lambda: not ours(), 30)
    assert not Path("/run/slabmon/slabmon.sock").exists()
    assert host.show("ActiveState", "slabmon.socket") == "inactive"


def test_it_is_removed() -> None:
    host.run("systemctl", "start", "slabmon.service")
    host.wait_for(host.running)
    if HOW == "deb":
        host.run("dpkg", "--purge", "slabmon")
        assert not Path("/etc/slabmon").exists()
    else:
        host.run("make", "uninstall")
        assert Path("/etc/slabmon/slabmon.toml").exists()
    host.wait_for(lambda: not ours(), 30)
    left = host.run("find", "/usr", "/etc/systemd", "-path", "*slabmon*", "-not", "-path",
                    "/usr/lib/python3/dist-packages/slabmon/*")  # fmt: skip
    assert not left
    assert host.show("LoadState") == "not-found"
