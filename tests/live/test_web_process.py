# SPDX-License-Identifier: Apache-2.0
"""The real web process under a collector without a kernel side: what it may do, whom it serves
while others misbehave, and what it shows when its collector does."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slabmon.base.errors import UsageError
from slabmon.daemon import supervisor
from slabmon.runtime.channel import Answer
from slabmon.store.codec import encode
from slabmon.web.settings import WebSettings
from tests.live.collector import FakeCollector, wait_for
from tests.support.certificates import Authority
from tests.support.serving import Client, Reply, run
from tests.support.snapshots import synthetic
from tests.unit.web.serving.test_auth import HASH, basic

pytestmark = [pytest.mark.live, pytest.mark.beside]

NOBODY = WebSettings(user="nobody")


@pytest.fixture(params=[False, True], ids=["open", "password"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeCollector]:
    """With a password there is a second thread, which checks them."""
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users: {{alice: '{HASH.decode()}'}}\n" if request.param else "")
    with FakeCollector(WebSettings(user="nobody", config_file=str(path))) as found:
        yield found


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[FakeCollector]:
    with FakeCollector(NOBODY, tmp_path / "s.sock") as found:
        yield found


def get(
    collector: FakeCollector,
    path: str = "/metrics",
    tls: ssl.SSLContext | None = None,
    **headers: str,
) -> Reply:
    async def ask() -> Reply:
        client = await Client.to(("127.0.0.1", collector.port), tls)
        try:
            return await client.ask(path, **headers)
        finally:
            client.close()

    return asyncio.run(ask())


def up(collector: FakeCollector) -> bool:
    return b"\nslabmon_up 1.0\n" in get(collector).body


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def descriptors(pid: int) -> dict[int, str]:
    folder = Path(f"/proc/{pid}/fd")
    found = {}
    for entry in folder.iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)
        except FileNotFoundError:
            continue
    return found


def test_it_has_no_privilege(guarded: FakeCollector) -> None:
    collector = guarded
    assert get(collector).status in (200, 401)
    nobody = pwd.getpwnam("nobody")
    threads = [int(name) for name in os.listdir(f"/proc/{collector.pid}/task")]
    for found in map(status_of, threads):
        assert found["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert found["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert found["Groups"] == ""
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(found[kind], 16) == 0, kind
        assert found["NoNewPrivs"] == "1"
    # Files in /proc of a process that is not dumpable are root's.
    assert os.stat(f"/proc/{collector.pid}/environ").st_uid == 0
    limits = Path(f"/proc/{collector.pid}/limits").read_text()
    assert re.search(r"Max processes +0 +0", limits)
    assert re.search(r"Max core file size +0 +0", limits)


def test_nothing_is_open_but_its_sockets_and_its_channel(collector: FakeCollector) -> None:
    assert wait_for(lambda: up(collector))
    # Beside the standard ones: the file of verdicts, two listeners, the channel, and the event
    # loop's epoll and the pair that wakes it.
    wait_for(lambda: len(descriptors(collector.pid)) <= 10)  # the connection just used is closed
    found = descriptors(collector.pid)
    assert (found.pop(0), found.pop(1)) == ("/dev/null", "/dev/null")
    assert found.pop(2) == os.readlink("/proc/self/fd/2"), "where log lines go"
    kinds = sorted(re.sub(r"\d+", "N", name) for name in found.values())
    verdicts = "/memfd:checkpoint (deleted)"
    assert kinds == [verdicts, "anon_inode:[eventpoll]", *["socket:[N]"] * 5]
    ours = set(descriptors(os.getpid()).values())
    shared = [name for name in found.values() if name.startswith("socket:") and name in ours]
    assert len(shared) == 2, "the listeners"


def test_its_surroundings_are_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Session, directory and signals do not depend on those of its parent."""
    monkeypatch.chdir(tmp_path)
    with FakeCollector(NOBODY) as found:
        assert wait_for(lambda: up(found))
        assert os.readlink(f"/proc/{found.pid}/cwd") == "/"
        assert os.getsid(found.pid) == found.pid
        assert Path(f"/proc/{found.pid}/comm").read_text() == "slabmon-web\n"
        ignored = int(status_of(found.pid)["SigIgn"], 16)
        caught = int(status_of(found.pid)["SigCgt"], 16)
        for number in (signal.SIGTERM, signal.SIGHUP):
            assert not (ignored | caught) >> (number - 1) & 1


@pytest.mark.skipif(
    Path("/proc/sys/kernel/randomize_va_space").read_text() == "0\n",
    reason="the kernel randomizes no addresses",
)
def test_its_addresses_say_nothing_about_those_of_the_collector(collector: FakeCollector) -> None:
    def libc(pid: int) -> str:
        maps = Path(f"/proc/{pid}/maps").read_text()
        return next(line for line in maps.splitlines() if "/libc" in line).partition("-")[0]

    assert libc(collector.pid) != libc(os.getpid())


def test_it_has_nothing_of_the_kernel_in_it(collector: FakeCollector) -> None:
    mapped = Path(f"/proc/{collector.pid}/maps").read_text()
    assert "bpf" not in mapped
    environment = Path(f"/proc/{collector.pid}/environ").read_bytes().split(b"\0")
    allowed = {b"PATH", b"LANG", b"LC_ALL", b"PYTHONPATH", b"TZ", b"OPENBLAS_NUM_THREADS", b""}
    assert {entry.partition(b"=")[0] for entry in environment} <= allowed


def test_after_its_death_another_serves(collector: FakeCollector) -> None:
    assert wait_for(lambda: up(collector))
    first = collector.pid
    os.kill(first, signal.SIGKILL)
    second = wait_for(lambda: collector.pid if collector.pid != first else None)
    assert second != first
    assert b"slabmon_web_restarts_total 1.0" in get(collector).body


def test_a_web_process_that_breaks_the_protocol_is_replaced(collector: FakeCollector) -> None:
    first = collector.pid
    process = collector.supervisor._current
    assert process
    process._command(b"open /etc/shadow")
    assert wait_for(lambda: collector.pid if collector.pid != first else None)
    assert wait_for(lambda: up(collector))


def test_one_that_hangs_is_replaced(
    collector: FakeCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "SILENT_CHECKS", 3)
    first = collector.pid
    os.kill(first, signal.SIGSTOP)
    assert wait_for(lambda: collector.pid != first)
    assert not Path(f"/proc/{first}").exists()
    assert wait_for(lambda: up(collector))


def test_one_that_lives_is_left_alone(
    collector: FakeCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "SILENT_CHECKS", 3)
    first = collector.pid
    collector.loop.later(12, lambda: setattr(collector, "body", b""))
    wait_for(lambda: collector.body == b"")
    assert collector.pid == first


def test_a_collector_that_hangs_is_reported(collector: FakeCollector) -> None:
    assert wait_for(lambda: up(collector))
    held: list[tuple[object, bytes]] = []
    collector.behave = lambda process, command: held.append((process, command))
    time.sleep(0.6)  # readings are shared for half a second
    body = get(collector).body
    assert b"\nslabmon_up 0.0\n" in body
    assert b"slabmon_cache_live_bytes{" in body, "the last reading"
    assert get(collector, "/readyz").status == 503
    assert get(collector, "/api/v1/snapshot").status == 503
    assert get(collector, "/healthz").status == 200
    assert b"no reading within" in get(collector, "/api/v1/table").body, "the page says so, too"
    collector.behave = collector.answer
    collector.answer(*held[0])  # type: ignore[arg-type]
    assert wait_for(lambda: up(collector))


def test_nonsense_from_the_collector_is_survived(collector: FakeCollector) -> None:
    assert wait_for(lambda: up(collector))

    def garble(process: object, command: bytes) -> None:
        collector.behave = collector.answer
        process.answer(Answer(command, True, None, b"nonsense"))  # type: ignore[attr-defined]

    collector.behave = garble
    first = collector.pid
    time.sleep(0.6)
    assert get(collector).status == 200
    assert wait_for(lambda: collector.pid if collector.pid != first else None)
    assert wait_for(lambda: up(collector))


def resident(pid: int) -> int:
    return int(status_of(pid)["VmRSS"].split()[0]) << 10


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_honest_scrapes_are_answered_whatever_others_do(
    tmp_path: Path, record_property: Callable[[str, object], None], secure: bool
) -> None:
    """300 slow-loris connections, 50 scrapers and every kind of nonsense, all from the address of
    the honest scraper. A large host's metrics: 200 KB."""
    path = tmp_path / "web.yml"
    config = f"basic_auth_users: {{alice: '{HASH.decode()}'}}\n"
    tls, trusted = None, []
    if secure:
        authority = Authority(tmp_path)
        cert, key = authority.issue("server")
        config += f"tls_server_config: {{cert_file: {cert}, key_file: {key}}}\n"
        trusted = [str(authority.certificate)]
        tls = ssl.create_default_context(cafile=trusted[0])
    path.write_text(config)
    # A budget that says nothing about how busy the machine is that runs this.
    settings = WebSettings(user="nobody", config_file=str(path), budget_seconds=60)
    with FakeCollector(settings) as collector:
        large = synthetic(caches=300, sites=600, devices=400, objects=5_000)
        collector.body = encode(replace(large, tracked=replace(large.tracked, stacks={})))
        right = {"Authorization": basic("alice", "secret")}

        async def scrapes() -> list[float]:
            times = []
            for _ in range(20):
                start = time.monotonic()
                client = await Client.to(("127.0.0.1", collector.port), tls)
                reply = await client.ask("/metrics", **right)
                client.close()
                assert reply.status == 200
                assert b"\nslabmon_up 1.0\n" in reply.body
                times.append(time.monotonic() - start)
                await asyncio.sleep(0.2)
            return times

        assert get(collector, tls=tls, **right).status == 200
        before, pid = resident(collector.pid), collector.pid
        attack = subprocess.Popen(
            [sys.executable, "-m", "tests.live.attack", str(collector.port), "60", *trusted],
            stdout=subprocess.PIPE,
        )
        try:
            assert attack.stdout
            assert attack.stdout.readline() == b"attacking\n"
            times = run(scrapes)
            peak = resident(collector.pid)
            assert attack.poll() is None, "the attack went on all the time"
        finally:
            attack.kill()
            attack.wait()
            attack.stdout.close()  # type: ignore[union-attr]
        record_property("slowest_scrape_seconds", max(times))
        record_property("grown_bytes", peak - before)
        print(
            f"\nscrapes: slowest {max(times):.3f} s, mean {sum(times) / len(times):.3f} s; "
            f"memory {before >> 20} -> {peak >> 20} MiB"
        )
        assert collector.pid == pid, "it lived through it"
        assert peak - before < 64 << 20


def test_no_descriptor_is_left_over_after_10000_requests(collector: FakeCollector) -> None:
    async def many() -> None:
        async def worker() -> None:
            for _ in range(20):
                client = await Client.to(("127.0.0.1", collector.port))
                for number in range(25):
                    path = "/metrics" if number % 5 == 0 else "/healthz"
                    assert (await client.ask(path)).status == 200
                client.close()

        await asyncio.gather(*(worker() for _ in range(20)))

    assert wait_for(lambda: up(collector))
    before, memory = len(descriptors(collector.pid)), resident(collector.pid)
    run(many)
    wait_for(lambda: len(descriptors(collector.pid)) <= before)
    assert resident(collector.pid) - memory < 16 << 20


def test_certificates_are_taken_over_when_they_change(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    first, second = authority.issue("first"), authority.issue("second")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def install(certificate: bytes, secret: bytes) -> None:
        for target, content in ((cert, certificate), (key, secret)):
            new = target.with_suffix(".new")
            new.write_bytes(content)
            new.chmod(0o600)  # nobody but root can read it
            new.rename(target)

    def shown() -> str:
        async def look() -> str:
            client = await Client.to(("127.0.0.1", collector.port), context)
            certificate = client.writer.get_extra_info("ssl_object").getpeercert()
            client.close()
            return str(dict(field[0] for field in certificate["subject"])["commonName"])

        return asyncio.run(look())

    install(first[0].read_bytes(), first[1].read_bytes())
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    with FakeCollector(WebSettings(user="nobody", config_file=str(path))) as collector:
        assert shown() == "first"
        install(second[0].read_bytes(), second[1].read_bytes())
        wait_for(lambda: shown() == "second")
        install(b"broken", b"broken")
        wait_for(lambda: collector.supervisor.configuration_failed)
        assert shown() == "second", "the one before stays in force"
        assert b"slabmon_web_configuration_failed 1.0" in wait_for(
            lambda: body if b"failed 1" in (body := get(collector, tls=context).body) else None
        )
        install(first[0].read_bytes(), first[1].read_bytes())
        wait_for(lambda: shown() == "first")
        assert not collector.supervisor.configuration_failed


def test_a_mistake_in_the_web_configuration_is_one_error_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text("tls: {}\n")
    with (
        pytest.raises(UsageError, match=r"web\.yml: .*`tls`"),
        FakeCollector(WebSettings(user="nobody", config_file=str(path))),
    ):
        pass
    with (
        pytest.raises(UsageError, match="no user 'absent'"),
        FakeCollector(WebSettings(user="absent")),
    ):
        pass
