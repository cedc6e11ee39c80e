# SPDX-License-Identifier: Apache-2.0
"""slabmon leaks, and the daemon's side of it: documents, text, metrics."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tornado.testing import gen_test

from slabmon.base.errors import UsageError
from slabmon.cli.main import main
from slabmon.export import leaks
from slabmon.export.metrics import VERDICTS, Daemon
from slabmon.export.prometheus import Exporter
from slabmon.leaks.dismissals import CHECKS
from slabmon.leaks.finding import Assessment, Dismissal
from slabmon.leaks.observer import Observer
from slabmon.model import Snapshot
from slabmon.sources.daemon import DaemonSource
from slabmon.store.writer import RecordingWriter
from slabmon.views.catalogue import VIEWS
from slabmon.views.filtering import mask
from slabmon.views.table import Table
from slabmon.views.window import Instant, Window
from tests.scenarios.host import Simulation, World
from tests.support import scraping
from tests.support.builders import windows
from tests.support.paths import ROOT
from tests.support.snapshots import full
from tests.unit.leaks.test_observer import STEP, leak
from tests.unit.sources.test_daemon import Daemon as FakeDaemon
from tests.unit.sources.test_daemon import Tcp, running
from tests.unit.web.test_app import WebTest

END = 1800.0


def shown(end: float = END) -> list[Snapshot]:
    world = World([leak(end=end)], sample_bytes=0)
    return list(Simulation(world, np.random.default_rng(5)).run(end, STEP))


@pytest.fixture(scope="module")
def snapshots() -> list[Snapshot]:
    return shown()


@pytest.fixture(scope="module")
def observer(snapshots: list[Snapshot]) -> Observer:
    found = Observer()
    for snapshot in snapshots:
        found.add(snapshot)
    return found


@pytest.fixture(scope="module")
def recording(snapshots: list[Snapshot], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("leaks") / "slabs.rec"
    with RecordingWriter(path) as history:
        for snapshot in snapshots:
            history.append(snapshot, snapshot.tracking.since + snapshot.tracking.seconds)
    return path


Run = pytest.CaptureFixture[str]


def test_a_recording_is_judged(capsys: Run, recording: Path) -> None:
    assert main(["leaks", "--replay", str(recording), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ready"]
    (verdict,) = document["verdicts"]
    assert (verdict["kind"], verdict["suspect"]) == ("site", "leak+0x4 [mod]")
    assert verdict["module"] == "mod"
    assert verdict["low_bytes_per_hour"] <= 2000 * 1024 * 3600 / END
    assert verdict["share_seconds"] > 0


def test_people_get_sentences(capsys: Run, recording: Path) -> None:
    assert main(["leaks", "--replay", str(recording), "--share", "50"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("1 suspected leak.\n")
    assert "site leak+0x4 [mod]: possible" in output
    assert "50% of memory in " in output
    assert "  for:     it grew by " in output
    assert "  against: watched for " in output


def test_too_short_a_recording_says_so(capsys: Run, tmp_path: Path) -> None:
    path = tmp_path / "short.rec"
    with RecordingWriter(path) as history:
        history.append(shown(300)[-1])
    assert main(["leaks", "--replay", str(path)]) == 0
    output = capsys.readouterr().out
    assert output.startswith("Too early to tell")
    assert "needs at least 21m00s" in output
    assert "slabmon census" in output, "what was lost before is not told by growth"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--replay", "/nonexistent"],
        ["--replay", "a", "--connect", "unix:/b"],
        ["--share", "0"],
        ["--connect", "unix:/b", "--exact", "cache=dentry"],
        ["--replay", "a", "--exact", "site=x"],
        ["--replay", "a", "--seconds", "5"],
        ["--share", "x"],
        ["--seconds", "soon"],
        ["--connect", "unix:/nonexistent"],
    ],
)
def test_bad_input_is_one_line(capsys: Run, arguments: list[str]) -> None:
    try:
        code = main(["leaks", *arguments])
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nothing_to_say_is_said() -> None:
    text = leaks.to_text(leaks.to_dict(Observer().assess()))
    assert text.startswith("Too early to tell")


def test_hostile_names_do_not_reach_the_terminal(observer: Observer) -> None:
    document = leaks.to_dict(observer.assess())
    document["verdicts"][0]["suspect"] = "\x1b[2Jx"
    document["verdicts"][0]["evidence_for"] = ["\x07"]
    assert not set(leaks.to_text(document)) & {"\x1b", "\x07"}


def answer(body: bytes) -> leaks.Document:
    with Tcp(("127.0.0.1", 0), FakeDaemon) as server, running(server):
        server.answers = (200, "application/json", body, None)
        with DaemonSource(f"http://127.0.0.1:{server.server_address[1]}") as source:
            return source.leaks(0.1)


def test_a_daemon_is_asked(observer: Observer) -> None:
    document = leaks.to_dict(observer.assess())
    assert answer(json.dumps(document).encode()) == document


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"schema": 1}', b"[" * 100_000, b"\xff"])
def test_a_daemon_that_says_something_else_is_an_error(body: bytes) -> None:
    with pytest.raises(UsageError):
        answer(body)


def test_metrics_are_bounded(observer: Observer) -> None:
    families = Exporter().families(None, Daemon(), observer.assess())
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in scraping.parse_text(scraping.text(families))
        for sample in family.samples
    }
    rate = samples["slabmon_leak_suspect_bytes_per_second", "site", "mod", "leak+0x4 [mod]"]
    assert rate == pytest.approx(2000 * 1024 / END, rel=0.05)
    assert samples["slabmon_leak_suspects", "possible"] == 1
    assert samples["slabmon_leak_verdicts_ready",] == 1
    many = replace(
        observer.assess(), verdicts=observer.assess().verdicts * (leaks.MAX_SUSPECTS + 2)
    )
    rows = list(VERDICTS[0].rows(many))
    assert len(rows) == leaks.MAX_SUSPECTS + 1
    labels, folded = rows[-1]
    assert labels == ("other",) * 3
    assert folded == pytest.approx(2 * rate)


def dismissed(code: Dismissal, observer: Observer) -> Assessment:
    """An assessment with its one verdict dismissed."""
    plain = observer.assess()
    (verdict,) = plain.verdicts
    other = replace(verdict, dismissed="for a reason", dismissal=code)
    return replace(plain, verdicts=(), dismissed=(other,))


@pytest.mark.parametrize("code", Dismissal)
def test_a_dismissal_is_counted_by_its_code(code: Dismissal, observer: Observer) -> None:
    families = Exporter().families(None, Daemon(), dismissed(code, observer))
    counted = {
        sample.labels["reason"]: sample.value
        for family in scraping.parse_text(scraping.text(families))
        for sample in family.samples
        if sample.name == "slabmon_leak_dismissed_findings"
    }
    assert counted == {str(other): float(other == code) for other in Dismissal}


def test_a_dismissal_keeps_its_code_as_a_document(observer: Observer) -> None:
    before = dismissed(Dismissal.PLATEAU, observer)
    document = leaks.to_dict(before)
    assert document["dismissed"][0]["dismissal"] == "plateau"
    (after,) = leaks.from_dict(answer(json.dumps(document).encode())).dismissed
    assert (after.dismissal, after.dismissed) == (Dismissal.PLATEAU, "for a reason")


def test_growth_that_ended_is_told_by_its_size(observer: Observer) -> None:
    document = leaks.to_dict(dismissed(Dismissal.PLATEAU, observer))
    goes_on = leaks.to_text(document)
    document["dismissed"][0] |= {
        "growth_bytes_per_hour": 0,
        "grown_bytes": 7168,
        "window_seconds": 1440.0,
    }
    ended = leaks.to_text(document)
    assert re.search(r"site leak\+0x4 \[mod\], \+[\d.]+ MiB/h: for a reason", goes_on)
    assert "site leak+0x4 [mod], 7.0 KiB in 24m00s: for a reason" in ended


def test_codes_of_other_versions_are_ignored(observer: Observer) -> None:
    document = leaks.to_dict(dismissed(Dismissal.PLATEAU, observer))
    newer, older = (json.loads(json.dumps(document)) for _ in range(2))
    newer["dismissed"][0]["dismissal"] = "moon_phase"
    del older["dismissed"][0]["dismissal"]
    for other in (newer, older):
        (after,) = leaks.from_dict(answer(json.dumps(other).encode())).dismissed
        assert (after.dismissal, after.dismissed) == (None, "for a reason")


def test_the_documentation_has_all_codes_in_the_order_of_the_checks() -> None:
    table = (ROOT / "docs/verdicts.md").read_text().split("**Dismissals.**")[1]
    codes = re.findall(r"^\| `(\w+)` \|", table.split("\n\n", 3)[1], re.M)
    assert codes == list(Dismissal)
    assert [*CHECKS, Dismissal.DISMISSED_SITE] == list(Dismissal)


def test_the_view_of_verdicts_can_be_filtered_by_dismissal(observer: Observer) -> None:
    view = VIEWS["verdicts"]
    judged = dismissed(Dismissal.PLATEAU, observer)
    for code, shown in (("plateau", 1), ("burst", 0)):
        table = Table(view, Window(Instant(full(), lambda: judged)))
        assert mask(f"dismissal = {code}", table).sum() == shown


def test_the_view_of_verdicts(snapshots: list[Snapshot]) -> None:
    *_, window = windows(snapshots)
    table = Table(VIEWS["verdicts"], window)
    (row,) = table.cells(
        table.order(),
        [VIEWS["verdicts"].column(name) for name in ("suspect", "kind", "verdict", "behind")],
    )
    assert row == ("leak+0x4 [mod]", "site", "possible", "mod")


class Leaks(WebTest):
    @gen_test
    async def test_what_the_daemon_says(self) -> None:
        answer = await self.http_client.fetch(self.get_url("/api/v1/leaks?share=0.5"))
        document = json.loads(answer.body)
        assert document["share_of_memory"] == 0.5
        assert not document["ready"]

    def test_a_share_that_is_none(self) -> None:
        for share in ("0", "2", "x", "nan"):
            assert self.get(f"/api/v1/leaks?share={share}").code == 400
