# SPDX-License-Identifier: Apache-2.0
"""What verdicts have watched goes on in another process, and nothing damaged is gone on from."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.activity import Activity
from slabmon.leaks import checkpoint
from slabmon.leaks.checkpoint import HEAD, MAGIC, BadCheckpoint
from slabmon.leaks.finding import Assessment
from slabmon.leaks.observer import Observer
from tests.support.checkpoints import CHECKPOINTS, SAVED, STEP, shown, watching

WHAT_TO_DO = """
What an Observer keeps has another shape than the last checkpoint in tests/unit/leaks/checkpoints.
What earlier versions have watched must stay usable: a field may be added, with a default; nothing
may be removed or renamed. Then count FORMAT in slabmon/leaks/checkpoint.py up, run
`python -m tests.support.checkpoints`, and commit the file that it writes beside the others."""
BOTH = {("site", "leak+0x4 [mod]"), ("device", "pci:hub")}


def again(observer: Observer) -> Observer:
    """Return an observer of another process that goes on from this one."""
    other = Observer()
    checkpoint.restore(other, checkpoint.pack(observer))
    return other


def names(assessment: Assessment) -> set[tuple[str, str]]:
    return {(finding.kind, finding.name) for finding in assessment.verdicts}


def test_a_new_process_with_each_snapshot_is_as_good_as_one_for_all() -> None:
    one, other = Observer(), Observer()
    for snapshot in shown():
        one.add(snapshot)
        other = again(other)
        other.add(snapshot)
        assert checkpoint.pack(other) == checkpoint.pack(one)
        assert other.assess() == one.assess()
    assert names(one.assess()) == BOTH
    assert one.assess().exhausting


def test_the_age_of_verdicts_goes_on() -> None:
    old, new = watching(), again(watching())
    assert names(old.assess()) == BOTH
    for snapshot in shown(begin=SAVED + STEP, end=SAVED + 2 * STEP):
        new.add(snapshot)
        assert names(new.assess()) == BOTH, "with the first snapshot"
        assert [finding.name for finding in new.assess().exhausting] == ["msg"]
    assert new.observed == old.observed + 2 * STEP
    assert new.suspicious


@pytest.mark.parametrize("later", [0.0, 1.0])
def test_verdicts_are_there_with_a_snapshot_between_two_points(later: float) -> None:
    """Or with the last one again: a collector that holds its budget repeats it."""
    new = again(watching())
    (last,) = shown(begin=SAVED, end=SAVED)
    new.add(replace(last, tracking=replace(last.tracking, seconds=SAVED + later)))
    assert names(new.assess()) == BOTH
    assert new.observed == SAVED - STEP + later


def test_time_that_was_watched_in_part_is_not_watched_again() -> None:
    """Of the 20 minutes, 15 were watched before; nobody looked for two minutes."""
    new = again(watching(end=900))
    for snapshot in shown(begin=900 + 120):
        new.add(snapshot)
        if new.assess().ready:
            break
    assert new.observed == new.assess().needed
    assert snapshot.tracking.seconds == pytest.approx(new.assess().needed + 120, abs=2 * STEP)


def test_a_new_session_begins_anew_but_for_early_findings() -> None:
    new = again(watching())
    for snapshot in shown(begin=SAVED + STEP, end=SAVED + 3 * STEP, session=SAVED):
        new.add(snapshot)
        assert not new.assess().verdicts
        assert [finding.name for finding in new.assess().exhausting] == ["msg"]
    assert new.observed == 2 * STEP


def test_another_boot_begins_all_anew() -> None:
    new = again(watching())
    for snapshot in shown(begin=SAVED + STEP, end=SAVED + 3 * STEP):
        new.add(replace(snapshot, host=replace(snapshot.host, boot_id="another")))
        assert not new.assess().verdicts
        assert not new.assess().exhausting
    assert new.observed == 2 * STEP


def test_what_exhausts_memory_is_watched_over_a_restart_while_tracking_sleeps() -> None:
    old = watching()
    for snapshot in shown(begin=SAVED + STEP):
        asleep = replace(snapshot.tracking, activity=Activity.ASLEEP)
        old.add(replace(snapshot, tracking=asleep))
        old = again(old)
        assert [finding.name for finding in old.assess().exhausting] == ["msg"]
        assert old.observed == 0


def test_nothing_watched_is_gone_on_from() -> None:
    new = again(Observer())
    assert new.assess() == Observer().assess()
    for snapshot in shown(end=SAVED):
        new.add(snapshot)
    assert checkpoint.pack(new) == checkpoint.pack(watching())


@pytest.mark.parametrize("number", range(1, checkpoint.FORMAT + 1))
def test_what_a_version_of_each_format_has_watched_is_gone_on_from(number: int) -> None:
    new = Observer()
    checkpoint.restore(new, (CHECKPOINTS / f"{number}.checkpoint").read_bytes())
    for snapshot in shown(begin=SAVED + STEP, end=SAVED + STEP):
        new.add(snapshot)
    assert names(new.assess()) == BOTH
    assert new.observed == SAVED


def fields(node: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of all fields of a document: its keys that are names, not subjects."""
    if isinstance(node, dict):
        for key, value in node.items():
            named = isinstance(key, str) and not path.endswith("modules")
            below = f"{path}.{key}" if named else f"{path}.*"
            yield below
            yield from fields(value, below)
    elif isinstance(node, tuple | list):
        for value in node:
            yield from fields(value, path)


def document(data: bytes) -> Any:
    return msgspec.msgpack.decode(data[len(HEAD) :])


def test_the_shape_of_the_state_is_that_of_the_format() -> None:
    last = (CHECKPOINTS / f"{checkpoint.FORMAT}.checkpoint").read_bytes()
    now = checkpoint.pack(watching())
    assert set(fields(document(now))) == set(fields(document(last))), WHAT_TO_DO


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "something else"),
        (b"another file", "something else"),
        (MAGIC + bytes(4), "something else"),
        (MAGIC + (checkpoint.FORMAT + 1).to_bytes(4, "little"), "a newer slabmon wrote it"),
        (HEAD, "damaged"),
        (HEAD + b"\x80", "damaged"),
        (checkpoint.pack(watching(300))[:-9], "damaged"),
    ],
)
def test_what_cannot_be_gone_on_from_changes_nothing(data: bytes, problem: str) -> None:
    observer = watching(300)
    before = checkpoint.pack(observer)
    with pytest.raises(BadCheckpoint, match=problem):
        checkpoint.restore(observer, data)
    assert checkpoint.pack(observer) == before


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each value of a document."""
    yield path
    items: Any = ()
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list | tuple):
        items = enumerate(node)
    for key, value in items:
        yield from places(value, (*path, key))


def changed(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a document with another value in one place."""
    if not path:
        return value
    key, *rest = path
    if isinstance(node, dict):
        return {**node, key: changed(node[key], tuple(rest), value)}
    return [changed(each, tuple(rest), value) if i == key else each for i, each in enumerate(node)]


DOCUMENT = document(checkpoint.pack(watching(600)))
WAYS = sorted(places(DOCUMENT), key=repr)
POINTS = [zlib.compress(np.full((4, 5), value).tobytes()) for value in (1e29, -1e29, np.nan)]
VALUES: tuple[Any, ...] = (
    *POINTS,
    None,
    True,
    -1,
    0,
    3,
    (1 << 64) - 1,
    1e308,
    -0.5,
    float("nan"),
    "",
    "x",
    b"",
    b"x" * 24,
    [],
    {},
)


@given(way=st.sampled_from(WAYS), value=st.sampled_from(VALUES))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of arithmetic with absurd figures
def test_whatever_is_written_ends_nothing(way: tuple[Any, ...], value: Any) -> None:
    forged = msgspec.msgpack.encode(changed(DOCUMENT, way, value))
    observer = Observer()
    try:
        checkpoint.restore(observer, HEAD + forged)
    except BadCheckpoint:
        return
    for snapshot in shown(begin=615, end=660):
        observer.add(snapshot)
    checkpoint.pack(observer)
    observer.assess()


@pytest.mark.parametrize("moment", [float("nan"), 1e9])
def test_no_scale_waits_for_ever_for_its_next_point(moment: float) -> None:
    forged = changed(DOCUMENT, ("scales", 2, "moments", 0), moment)
    with pytest.raises(BadCheckpoint, match="its moments cannot be"):
        checkpoint.restore(Observer(), HEAD + msgspec.msgpack.encode(forged))


def test_no_object_is_of_a_series_that_no_array_has() -> None:
    rows = DOCUMENT["scales"][0]["aged"]["rows"]
    forged = changed(DOCUMENT, ("scales", 0, "aged", "rows"), b"\0\0\0\x80" * (len(rows) // 4))
    with pytest.raises(BadCheckpoint, match="its objects cannot be"):
        checkpoint.restore(Observer(), HEAD + msgspec.msgpack.encode(forged))


def test_a_point_that_unpacks_to_gigabytes_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(64 << 20))
    forged = changed(DOCUMENT, ("scales", 0, "points", 0, "packed"), bomb)
    with pytest.raises(BadCheckpoint, match="a point cannot be"):
        checkpoint.restore(Observer(), HEAD + msgspec.msgpack.encode(forged))
