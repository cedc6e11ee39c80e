"""The service is installed, runs, and has the rights that it says it has."""

from __future__ import annotations

import json
import pwd
from pathlib import Path

from tests.vm.systemd import host
from tests.vm.systemd.story import DROP_INS, HOW, Story, main_pid, web_pids

BEFORE = 1009  # prime
CAPABILITIES = (5, 6, 7, 21, 34, 38, 39)  # KILL, SETGID, SETUID, SYS_ADMIN, SYSLOG, PERFMON, BPF
# Emulated machines are slow and over the budget; a story has more starts than ten minutes of a host
# should.
EMULATION = """[Unit]
StartLimitIntervalSec=0
[Service]
TimeoutStartSec=600
Environment=SLABMON_FLAGS=--budget.cpu-percent=0
"""


def test_it_is_installed() -> None:
    Path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)  # the root was made in a chroot
    DROP_INS.mkdir(parents=True)
    (DROP_INS / "emulation.conf").write_text(EMULATION)
    if HOW == "deb":
        host.run("make", "deb")
        host.install_package()
        assert Path("/usr/bin/slabmon").exists()
    else:  # `make install` was run into a directory of the host
        host.run("tar", "-xf", "/vm/share/installed.tar", "-C", "/", "--no-overwrite-dir")
        host.run("systemd-sysusers", "slabmon.conf")
        host.run("systemd-tmpfiles", "--create", "slabmon.conf")
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
    story.send(BEFORE)
    story.check_that_counting_went_on()


def test_it_has_no_more_rights_than_it_says() -> None:
    assert host.security() <= 2.5
    wanted = sum(1 << number for number in CAPABILITIES)
    assert f"CapBnd:\t{wanted:016x}\n" in Path(f"/proc/{main_pid()}/status").read_text()
    (web,) = web_pids()
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
