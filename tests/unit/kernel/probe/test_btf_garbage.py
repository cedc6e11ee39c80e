# SPDX-License-Identifier: Apache-2.0
"""Damaged BTF ends in BtfError: never in another exception, never in an endless loop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.kernel.probe.btf import Btf, BtfError
from tests.support.btf_blob import VOID, Blob


def _sound() -> bytes:
    blob = Blob()
    u32 = blob.integer("int", 4)
    pointer = blob.pointer(VOID)
    inner = blob.struct("", 8, [("b", u32, 32)])
    array = blob.array(blob.typedef("alias", inner), 3)
    blob.struct("s", 32, [("a", pointer, 0), ("", inner, 64), ("many", array, 128)])
    blob.enum("", {"E_ONE": 1, "E_TWO": 2})
    blob.tracepoint("event", [pointer, u32])
    return blob.build()


SOUND = _sound()


@contextmanager
def within_half_a_second() -> Iterator[None]:
    """An endless loop becomes a failure. CPU time: the machine may be busy with other things."""

    def stop(*_: object) -> None:
        pytest.fail("endless loop")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def ask_everything(data: bytes) -> None:
    """Every question slabmon asks of BTF; an answer and BtfError are both fine."""
    with within_half_a_second():
        try:
            btf = Btf(data)
            btf.load(struct=["s", "int"], typedef=["btf_trace_event"], func=["event"])
        except BtfError:
            return
        questions: list[Callable[[], object]] = [
            lambda: btf.size("s"),
            lambda: btf.offset("s", "absent", "many[2].b"),
            lambda: btf.offset("s", "a.b", "b"),
            lambda: btf.member_size("s", "many[1].b"),
            lambda: btf.prototype("btf_trace_event"),
            lambda: btf.enum_values("E_TWO"),
        ]
        for question in questions:
            try:
                question()
            except BtfError:
                continue


def test_the_undamaged_blob_answers_every_question() -> None:
    btf = Btf(SOUND)
    btf.load(struct=["s"], typedef=["btf_trace_event"])
    assert btf.size("s") == 32
    assert btf.offset("s", "many[2].b") == 16 + 2 * 8 + 4
    assert btf.offset("s", "b") == 12
    assert btf.prototype("btf_trace_event") == ["void *", "void *", "int"]
    assert btf.enum_values("E_TWO") == {"E_ONE": 1, "E_TWO": 2}


@pytest.mark.parametrize("data", [b"", b"\x9f", b"\x9f\xeb\x01\x00", b"\0" * 24, b"\xff" * 64])
def test_what_has_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(BtfError):
        Btf(data)


def test_an_unknown_kind_of_type_is_refused() -> None:
    blob = Blob()
    blob.add(31, "future", 0, 0)
    with pytest.raises(BtfError, match="31"):
        Btf(blob.build())


def test_types_that_end_early_are_refused() -> None:
    blob = Blob()
    blob.integer("int", 4)
    data = blob.build()
    with pytest.raises(BtfError):
        Btf(data[:28])


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_btf_error(data: bytes) -> None:
    ask_everything(data)


@given(st.binary(max_size=200))
def test_random_types_behind_a_sound_header_raise_nothing_but_btf_error(data: bytes) -> None:
    ask_everything(SOUND[:24] + data)


@given(st.integers(0, len(SOUND)))
def test_truncated_data_raises_nothing_but_btf_error(length: int) -> None:
    ask_everything(SOUND[:length])


@given(st.integers(0, len(SOUND) - 1), st.integers(0, 255))
def test_one_changed_byte_raises_nothing_but_btf_error(position: int, value: int) -> None:
    data = bytearray(SOUND)
    data[position] = value
    ask_everything(bytes(data))


@pytest.mark.parametrize("target", [99_999, 1])
def test_a_member_whose_type_is_missing_or_no_struct_is_no_crash(target: int) -> None:
    blob = Blob()
    blob.integer("int", 4)
    blob.struct("s", 8, [("", target, 0), ("many", target, 0)])
    ask_everything(blob.build())


def test_a_typedef_of_itself_ends() -> None:
    blob = Blob()
    loop = blob.typedef("loop", blob.next_id)
    blob.struct("s", 8, [("a", loop, 0)])
    ask_everything(blob.build())


def test_a_pointer_to_itself_ends() -> None:
    blob = Blob()
    loop = blob.pointer(blob.next_id)
    blob.tracepoint("event", [loop])
    ask_everything(blob.build())


def test_a_struct_inside_itself_ends() -> None:
    blob = Blob()
    blob.struct("s", 8, [("", blob.next_id, 0)])
    ask_everything(blob.build())


def test_a_last_type_that_reaches_beyond_the_data_is_no_crash() -> None:
    blob = Blob()
    blob.enum("", {"E_ONE": 1})
    blob.add(6, "E_TWO", 200, 4)
    ask_everything(blob.build())
