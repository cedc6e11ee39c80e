# SPDX-License-Identifier: Apache-2.0
"""Snapshots and recordings of every format stay readable, and the model changes only with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slabmon.base.errors import UsageError
from slabmon.store import codec
from slabmon.store.codec import BadSnapshot, decode, encode
from slabmon.store.compression import pack
from slabmon.store.recording import Recording
from slabmon.store.writer import RecordingWriter
from tests.support.formats import FORMATS, TIMES, describe, differences, example, plain
from tests.support.recordings import START, moment

NUMBERS = range(1, codec.FORMAT + 1)
WHAT_TO_DO = f"""
The model has another shape than {FORMATS.name}/current.txt describes. Recordings of earlier
versions must stay readable: a field may be added, at the end of a NamedTuple, with a default;
nothing may be removed, renamed or narrowed. Then count FORMAT in slabmon/store/codec.py up, run
`python -m tests.support.formats`, and commit the files that it writes beside the earlier ones."""


def expected(number: int) -> Any:
    return json.loads((FORMATS / f"{number}.json").read_text())


@pytest.mark.parametrize("number", NUMBERS)
def test_a_snapshot_of_every_format_is_read_with_all_its_figures(number: int) -> None:
    decoded = decode((FORMATS / f"{number}.snapshot").read_bytes())
    assert list(differences(expected(number), plain(decoded))) == []


@pytest.mark.parametrize("number", NUMBERS)
def test_a_recording_of_every_format_is_read_with_all_its_figures(number: int) -> None:
    with Recording(FORMATS / f"{number}.db") as recording:
        moments = list(recording.between())
    assert tuple(time for time, _ in moments) == TIMES
    for _, snapshot in moments:
        assert list(differences(expected(number), plain(snapshot))) == []


def test_a_recording_of_an_earlier_format_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "slabs.db"
    path.write_bytes((FORMATS / "1.db").read_bytes())
    with RecordingWriter(path) as history:
        history.append(moment(1), START + 20)
    with Recording(path) as recording:
        *earlier, (_, last) = recording.between()
    assert len(earlier) == len(TIMES)
    assert list(differences(plain(moment(1)), plain(last))) == []


def test_the_shape_of_the_model_is_that_of_the_format() -> None:
    assert describe() == (FORMATS / "current.txt").read_text(), WHAT_TO_DO


def test_the_fixtures_hold_every_field() -> None:
    number = codec.FORMAT
    assert plain(example()) == expected(number), WHAT_TO_DO
    assert (FORMATS / f"{number}.snapshot").read_bytes() == encode(example()), WHAT_TO_DO


def test_differences_are_seen() -> None:
    shown = expected(1)
    assert list(differences(shown, {**shown, "added": 1})) == []
    shown["host"]["cpus"] += 1
    shown["sites"].pop()
    assert len(list(differences(shown, expected(1)))) == 2


def headed(number: int) -> bytes:
    data = encode(moment(0))
    return codec.MAGIC + number.to_bytes(4, "little") + data[len(codec.HEAD) :]


def test_a_newer_format_is_one_clear_error(tmp_path: Path) -> None:
    number = codec.FORMAT + 1
    with pytest.raises(BadSnapshot, match=rf"^written by a newer slabmon \(format {number}\); "):
        decode(headed(number))
    path = tmp_path / "slabs.db"
    with RecordingWriter(path) as history:
        history.append(moment(0), START)
        history._database.execute("UPDATE snapshots SET data = ?", (pack(headed(number), b""),))
    with Recording(path) as recording, pytest.raises(UsageError, match="newer slabmon"):
        recording.at(START)


@pytest.mark.parametrize("number", [0, 1, 0x1_0000, 0x12345678])
def test_what_has_no_known_number_is_an_error(number: int) -> None:
    with pytest.raises(BadSnapshot, match="before formats had numbers"):
        decode(headed(number))
