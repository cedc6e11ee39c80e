# SPDX-License-Identifier: Apache-2.0
"""The service is installed, runs, and has the rights that it says it has."""

from __future__ import annotations

import grp
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


# A request over the local socket.
ASK = (
    "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/slabmon/slabmon.sock'); "
    "s.sendall(b'GET /healthz HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(4096))"
)


def test_the_local_socket_starts_with_rights_for_its_group_alone() -> None:
    status = Path("/run/slabmon/slabmon.sock").stat()
    assert status.st_mode & 0o777 == 0o660
    assert (status.st_uid, status.st_gid) == (0, grp.getgrnam("slabmon").gr_gid)

    def asked_by(group: str) -> str:
        return host.run(
            "setpriv",
            "--reuid",
            "nobody",
            "--regid",
            group,
            "--clear-groups",
            "python3",
            "-c",
            ASK,
            check=False,
        )

    assert "200 OK" in asked_by("slabmon")
    assert "PermissionError" in asked_by("nogroup")


def test_what_it_logs_when_it_starts_has_fields() -> None:
    lines = host.run("journalctl", "--no-pager", "--output", "json", "--unit", "slabmon.service")
    found = [json.loads(line) for line in lines.splitlines() if '"LOGGER"' in line]
    (entry,) = [line for line in found if line["MESSAGE"].startswith("tracking since")]
    assert (entry["LOGGER"], entry["PRIORITY"]) == ("slabmon.daemon.main", "6")
    assert entry["SYSLOG_IDENTIFIER"] == "slabmon"
    assert entry["CODE_FILE"].endswith("slabmon/daemon/main.py")


def test_every_feature_of_this_kernel_works_inside_the_sandbox() -> None:
    inside = host.snapshot()["features"]
    outside = host.run("slabmon", "check", "--format", "json")
    for name, feature in json.loads(outside)["features"].items():
        assert inside[name]["state"] == feature["state"], (name, inside[name])
    assert host.snapshot()["devices"]
    assert host.scrape()["slabmon_bpf_memory_bytes"] > 1 << 20
