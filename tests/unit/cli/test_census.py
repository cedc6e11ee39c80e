# SPDX-License-Identifier: Apache-2.0
"""The census command, given a census."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from slabmon.base.retained import RetainedBy
from slabmon.census.model import DEVICES_UNSUPPORTED, Census
from slabmon.cli import daemon_answer
from slabmon.cli.main import main
from slabmon.export.census import to_json
from slabmon.kernel.census import run
from slabmon.kernel.census.settings import CensusSettings
from slabmon.kernel.probe import slabinfo
from slabmon.sources.daemon import DaemonSource, NotReady
from tests.support.censuses import rich
from tests.unit.export.test_census import CENSUS, WITH_ORPHANS

FOUND = replace(WITH_ORPHANS, devices=rich().devices, retained=rich().retained)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[CensusSettings]:
    """The settings censuses were asked for with."""
    settings: list[CensusSettings] = []

    def take_census(wanted: CensusSettings, progress: Callable[[float], object]) -> Census:
        settings.append(wanted)
        progress(0.5)
        return FOUND if wanted.orphans or wanted.retained else CENSUS

    monkeypatch.setattr(run, "take_census", take_census)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    show_caches(monkeypatch)
    return settings


def show_caches(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have sysfs show these caches; none: sysfs is hidden."""
    directory = SimpleNamespace(names=names, refresh=lambda: None)
    monkeypatch.setattr(slabinfo, "SlabDirectory", lambda: directory)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dentri", "a cache called 'dentri'; near names: dentry"),
        ("UNIX_", "a cache called 'UNIX_'; near names: UNIX"),
        ("kmaloc-64", "a cache called 'kmaloc-64'; near names: kmalloc-cg-64, kmalloc-large"),
        (
            "family=kmaloc-64",
            "a family of caches called 'kmaloc-64'; near names: kmalloc-64, kmalloc-large",
        ),
    ],
)
def test_a_cache_that_does_not_exist_is_an_error_before_slabs_are_read(
    name: str,
    says: str,
    asked: list[CensusSettings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_caches(monkeypatch, "dentry", "UNIX", "signal_cache", "kmalloc-cg-64")
    assert main(["census", "--cache", name]) == 2
    assert capsys.readouterr().err == f"slabmon: error: --cache: no slab belongs to {says}\n"
    assert asked == []


@pytest.mark.parametrize("name", ["filp", "kmalloc-large", "family=kmalloc-64", "kmalloc-64"])
def test_a_cache_family_or_page_backed_kmalloc_that_exists_is_looked_for(
    name: str, asked: list[CensusSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    show_caches(monkeypatch, "filp", "kmalloc-cg-64")
    main(["census", "--cache", name])
    assert asked == [CensusSettings()]


def test_each_format_by_each_dimension(
    capsys: pytest.CaptureFixture[str], asked: list[CensusSettings]
) -> None:
    assert main(["census"]) == 0
    assert capsys.readouterr().out.startswith("CACHE")
    assert main(["census", "--by", "cgroup"]) == 0
    assert capsys.readouterr().out.startswith("CGROUP")
    assert main(["census", "--format", "csv", "--by", "cgroup"]) == 0
    assert capsys.readouterr().out.startswith("cgroup,state,")
    assert main(["census", "--format", "json", "--cache", "files"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in document["caches"]] == ["filp"]
    assert asked == [CensusSettings()] * 4


def test_limits_are_passed_on_and_bounded(
    capsys: pytest.CaptureFixture[str], asked: list[CensusSettings]
) -> None:
    assert main(["census", "--cpu-seconds", "2.5", "--memory-mib", "500"]) == 0
    assert asked == [CensusSettings(cpu_seconds=2.5, memory_mib=500)]
    assert main(["census", "--memory-mib", "1"]) == 2
    assert "memory_mib is 1" in capsys.readouterr().err


def test_orphans_are_looked_for_and_shown(
    capsys: pytest.CaptureFixture[str], asked: list[CensusSettings]
) -> None:
    assert main(["census", "--orphans"]) == 0
    assert "holds gizmo_fires at +8" in capsys.readouterr().out
    assert main(["census", "--orphans", "--by", "type", "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["orphans"]) == 2
    assert asked == [CensusSettings(cpu_seconds=600, orphans=True)] * 2
    assert main(["census", "--orphans", "--by", "type"]) == 2
    assert "--by: rows of --orphans" in capsys.readouterr().err


def test_devices_are_found_without_a_search_for_orphans(
    capsys: pytest.CaptureFixture[str],
    asked: list[CensusSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(["census", "--by", "device"]) == 0
    assert main(["census", "--retained", "device"]) == 0
    assert asked == [CensusSettings(cpu_seconds=600, retained=RetainedBy.DEVICE)] * 2
    there = ["--connect", "http://127.0.0.1:1"]
    for reason, code, message in (
        (f"{DEVICES_UNSUPPORTED}: odd", 4, "what devices hold cannot be found: odd"),
        ("", 2, "this daemon does not look for what devices hold; set orphans = true"),
    ):
        unknown = replace(WITH_ORPHANS, limits=(reason,) if reason else ())
        monkeypatch.setattr(DaemonSource, "census", lambda _, result=unknown: result)
        assert main(["census", "--by", "device", *there]) == code
        assert message in capsys.readouterr().err
    monkeypatch.setattr(DaemonSource, "census", lambda _: FOUND)
    assert main(["census", "--by", "device", *there]) == 0
    assert "0000:00:03.0" in capsys.readouterr().out
    assert main(["census", "--by", "device", "--cache", "dentry", *there]) == 2
    assert "leave --cache out" in capsys.readouterr().err
    monkeypatch.setattr(DaemonSource, "census", lambda _: CENSUS)
    assert main(["census", "--by", "device", *there]) == 2
    assert "set orphans = true" in capsys.readouterr().err


def test_what_others_retain_is_shown(
    capsys: pytest.CaptureFixture[str], asked: list[CensusSettings]
) -> None:
    assert main(["census", "--retained", "cgroup"]) == 0
    assert asked == [CensusSettings(cpu_seconds=600, retained=RetainedBy.CGROUP)]
    heading, row, *_ = capsys.readouterr().out.splitlines()
    assert heading.split() == ["RETAINED", "BYTES", "OBJECTS", "NAME", "LARGEST", "CACHES"]
    assert row.split()[5] == "/a"
    assert main(["census", "--retained", "cgroup", "--format", "csv"]) == 0
    heading = capsys.readouterr().out.splitlines()[0]
    assert heading == "retained_bytes,bytes,objects,kind,name,largest"
    for words, message in (
        (["--by", "type"], "does not go with --by"),
        (["--orphans"], "does not go with --orphans"),
        (["--cache", "dentry"], "does not go with --cache"),
        (["--connect", "http://127.0.0.1:1"], "what devices retain only"),
    ):
        assert main(["census", "--retained", "cgroup", *words]) == 2
        assert message in capsys.readouterr().err


def test_orphans_that_could_not_be_looked_for_are_an_error(
    capsys: pytest.CaptureFixture[str],
    asked: list[CensusSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(DaemonSource, "census", lambda _: CENSUS)
    assert main(["census", "--orphans", "--connect", "http://127.0.0.1:1"]) == 2
    assert "set orphans = true in the [census] table" in capsys.readouterr().err
    limited = dataclasses.replace(CENSUS, limits=("orphans were not found: too much to read",))
    monkeypatch.setattr(DaemonSource, "census", lambda _: limited)
    assert main(["census", "--orphans", "--connect", "http://127.0.0.1:1"]) == 70
    assert "orphans were not found: too much to read" in capsys.readouterr().err
    unsupported = dataclasses.replace(CENSUS, limits=("orphans cannot be found: other pages",))
    monkeypatch.setattr(DaemonSource, "census", lambda _: unsupported)
    assert main(["census", "--orphans", "--connect", "http://127.0.0.1:1"]) == 4
    assert not asked


def test_without_root_it_is_refused_at_once(
    capsys: pytest.CaptureFixture[str],
    asked: list[CensusSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["census"]) == 3
    assert "needs root" in capsys.readouterr().err
    assert not asked


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dentri", "a cache called 'dentri'; near names: dentry\n"),
        ("family=dentri", "a family of caches called 'dentri'; near names: dentry\n"),
        ("nope", "a cache called 'nope'; slabmon census lists all\n"),
        ("family=nope", "a family of caches called 'nope'; slabmon census lists all\n"),
    ],
)
def test_an_unknown_cache_is_bad_input(
    name: str, says: str, capsys: pytest.CaptureFixture[str], asked: list[CensusSettings]
) -> None:
    assert main(["census", "--cache", name]) == 2
    assert capsys.readouterr().err == f"slabmon: error: --cache: no slab belongs to {says}"
    assert len(asked) == 1


def test_limits_are_those_of_a_local_census(
    capsys: pytest.CaptureFixture[str], asked: list[CensusSettings]
) -> None:
    assert main(["census", "--memory-mib", "500", "--connect", "http://127.0.0.1:1"]) == 2
    assert "--memory-mib configures a local session" in capsys.readouterr().err
    assert not asked


def test_a_daemon_is_asked_until_its_census_is_there(
    capsys: pytest.CaptureFixture[str],
    asked: list[CensusSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[Census | NotReady] = [
        NotReady("503 a census is being taken", 1),
        NotReady("503", 5),
        CENSUS,
    ]

    def census(_: DaemonSource) -> Census:
        answer = answers.pop(0)
        if isinstance(answer, NotReady):
            raise answer
        return answer

    monkeypatch.setattr(DaemonSource, "census", census)
    monkeypatch.setattr(daemon_answer, "AGAIN_SECONDS", 0)
    assert main(["census", "--connect", "http://127.0.0.1:1", "--cache", "files"]) == 0
    assert "filp" in capsys.readouterr().out
    assert not answers
    assert not asked
    answers.append(NotReady("503 no census: the budget of CPU time is used up", 60))
    assert main(["census", "--connect", "http://127.0.0.1:1"]) == 2
    assert "budget" in capsys.readouterr().err


def test_a_daemon_is_not_asked_for_ever(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def census(_: DaemonSource) -> Census:
        raise NotReady("503 a census is being taken: 7 % done", 1)

    monkeypatch.setattr(DaemonSource, "census", census)
    monkeypatch.setattr(daemon_answer, "DAEMON_SECONDS", 0.0)
    assert main(["census", "--connect", "http://127.0.0.1:1"]) == 2
    assert "7 % done" in capsys.readouterr().err


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A census from a minute before."""
    path = tmp_path / "before.json"
    dentry, filp = CENSUS.caches
    path.write_text(
        to_json(
            replace(
                CENSUS,
                taken=CENSUS.taken - 60,
                objects=100,
                caches=(replace(dentry, in_use=70, free=77), filp),
                cgroups=CENSUS.cgroups[:1],
            )
        )
    )
    return path


def test_what_changed_since_a_census_in_a_file(
    capsys: pytest.CaptureFixture[str], asked: list[CensusSettings], earlier: Path
) -> None:
    assert main(["census", "--since", str(earlier)]) == 0
    heading, line, *summary = capsys.readouterr().out.splitlines()
    assert "USE" not in heading.replace("IN USE", "")
    assert line.split() == ["dentry", "0", "B", "0", "0", "+30", "-30", "192", "B", "0", "B"]
    assert summary[0].startswith("+30 objects in use from ")
    assert main(["census", "--since", str(earlier), "--by", "cgroup", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["cgroup"], row["objects"]) for row in rows] == [("/[removed]", "20")]
    assert main(["census", "--since", str(earlier), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["since"] == CENSUS.taken - 60
    assert [row["in_use"] for row in document["caches"]] == [30]
    assert main(["census", "--since", str(earlier), "--cache", "files"]) == 0
    assert "dentry" not in capsys.readouterr().out
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 2, "cannot read"),
        (b"", 2, "is not what `slabmon census --format json` writes"),
        (b"[1]", 2, "is not what `slabmon census --format json` writes"),
        (b"a table\n", 2, "is not what `slabmon census --format json` writes"),
        (b"SQLite \xff\x00", 2, "is not what `slabmon census --format json` writes"),
        (b'{"schema":2}', 2, "another format"),
        (b'{"schema":1,"since":5}', 2, "a difference of two censuses"),
        (b'{"schema":1}', 2, "does not understand"),
    ],
)
def test_a_file_without_a_census_is_bad_input_before_one_is_taken(
    content: bytes | None,
    code: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    asked: list[CensusSettings],
) -> None:
    path = tmp_path / "before.json"
    if content is not None:
        path.write_bytes(content)
    assert main(["census", "--since", str(path)]) == code
    errors = capsys.readouterr().err
    assert errors.startswith("slabmon: error: --since: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert not asked


def test_a_census_of_another_boot_is_bad_input(
    capsys: pytest.CaptureFixture[str], asked: list[CensusSettings], tmp_path: Path
) -> None:
    path = tmp_path / "before.json"
    other = replace(CENSUS, taken=CENSUS.taken - 60, host=replace(CENSUS.host, boot_id="other"))
    path.write_text(to_json(other))
    assert main(["census", "--since", str(path)]) == 2
    assert "is of another boot (other, " in capsys.readouterr().err
