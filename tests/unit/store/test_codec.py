# SPDX-License-Identifier: Apache-2.0
"""Snapshots as bytes: equal after a round trip, checked whatever the bytes are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.escape import escape
from slabmon.model import Snapshot
from slabmon.store import codec
from slabmon.store.codec import BadSnapshot, decode, encode
from tests.support.builders import cache, device, site, snapshot
from tests.support.snapshots import COLUMNS, assert_same, full, show_everything, synthetic

ENCODED = encode(full())
HEAD = len(codec.HEAD)


@pytest.mark.parametrize(
    "make", [snapshot, full, lambda: synthetic(30, 40, 20, 500)], ids=["empty", "full", "large"]
)
def test_a_snapshot_survives(make: Callable[[], Snapshot]) -> None:
    before = make()
    assert_same(decode(encode(before)), before)
    assert encode(decode(encode(before))) == encode(before)
    assert show_everything(decode(encode(before))) == show_everything(before)


def test_every_column_is_written() -> None:
    assert set(codec.TRACKED_COLUMNS) == set(COLUMNS["tracked"])
    assert set(codec.STACKED_COLUMNS) == set(COLUMNS["stacked"])


@given(st.binary(max_size=40))
def test_every_name_that_is_read_from_the_kernel_survives(raw: bytes) -> None:
    name = escape(raw)
    before = snapshot(
        caches=(cache(name, aliases=(name,)),),
        sites=(site(name, module=name),),
        devices=(device(name, name, driver=name),),
    )
    assert_same(decode(encode(before)), before)


def test_limits_of_numbers_survive() -> None:
    before = snapshot(caches=(cache(allocs=2**63 - 1, frees=-(2**63)),))
    assert_same(decode(encode(before)), before)


Path = tuple[Any, ...]


def leaves(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value and map key below a node that holds no others."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from leaves(value, (*path, position))
    else:
        yield path, node


def changed(path: Path, value: object) -> bytes:
    """The encoded snapshot with one leaf changed."""
    document = msgspec.msgpack.decode(ENCODED[HEAD:])
    node = document
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return ENCODED[:HEAD] + msgspec.msgpack.encode(document)


def refused(data: bytes) -> bool:
    """Whether these bytes are an error."""
    try:
        decode(data)
    except BadSnapshot:
        return True
    return False


LEAVES = list(leaves(msgspec.msgpack.decode(ENCODED[HEAD:])))
WRONG: dict[type, tuple[object, ...]] = {
    str: (1, "\x1b[2J", "a\nb", "\u202eb", "x" * (1 << 17)),
    int: ("1", 2**64 - 1, 1.5, True),
    float: ("1", float("nan"), float("inf")),
    bool: (1, "true"),
    bytes: ("", [], {}, b"1", 5, [[]]),
    type(None): (3.5, [1]),
}


def test_leaves_of_every_kind_are_tried() -> None:
    assert {type(value) for _, value in LEAVES} == set(WRONG)


def test_a_wrong_value_in_any_field_is_an_error() -> None:
    for path, value in LEAVES:
        for wrong in WRONG[type(value)]:
            assert refused(changed(path, wrong)), f"{path} took {wrong!r:.40}"


@pytest.mark.parametrize("table", ["losses", "features"])
def test_a_wrong_key_is_an_error(table: str) -> None:
    with pytest.raises(BadSnapshot):
        decode(changed((table, "\x1b[2J"), 1))


@pytest.mark.parametrize(("column", "row"), [("cache", 2), ("site", 2), ("cache", 2**32 - 1)])
def test_objects_of_rows_that_are_not_there_are_an_error(column: str, row: int) -> None:
    raw = np.array([0, row], "<u4").tobytes()
    with pytest.raises(BadSnapshot, match=column):
        decode(changed(("tracked", column), raw))


def test_a_sampled_object_without_a_size_is_an_error() -> None:
    with pytest.raises(BadSnapshot, match="no size"):
        decode(changed(("tracked", "bytes"), bytes(8)))


@pytest.mark.parametrize(
    ("table", "column"), [(table, name) for table, names in COLUMNS.items() for name in names]
)
def test_columns_of_unequal_length_are_an_error(table: str, column: str) -> None:
    with pytest.raises(BadSnapshot, match="differ in length"):
        decode(changed((table, column), b""))


@pytest.mark.parametrize("column", ["bytes", "stderr"])
@pytest.mark.parametrize("values", [(0, 0, -1), (2**61, 2**61, 0), (2**62, 2**62, 2**62)])
def test_what_was_allocated_by_stack_has_bounds(column: str, values: tuple[int, ...]) -> None:
    with pytest.raises(BadSnapshot, match="out of bounds"):
        decode(changed(("stacked", column), np.array(values, "<i8").tobytes()))


def test_a_cut_is_an_error_wherever_it_is() -> None:
    for size in range(len(ENCODED)):
        with pytest.raises(BadSnapshot):
            decode(ENCODED[:size])


def test_something_behind_the_end_is_an_error() -> None:
    with pytest.raises(BadSnapshot):
        decode(ENCODED + b"\0")


@given(st.lists(st.tuples(st.integers(HEAD, len(ENCODED) - 1), st.integers(0, 255)), max_size=4))
def test_changed_bytes_are_an_error_or_a_snapshot_that_can_be_shown(
    changes: list[tuple[int, int]],
) -> None:
    data = bytearray(ENCODED)
    for position, value in changes:
        data[position] = value
    if not refused(bytes(data)):
        show_everything(decode(bytes(data)))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_error(data: bytes) -> None:
    for hostile in (data, codec.HEAD + data):
        with pytest.raises(BadSnapshot):
            decode(hostile)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x91" * 1_000_000,
    ],
    ids=["array", "map", "bytes", "text", "depth"],
)
@pytest.mark.parametrize("field", ["unknown", "sites", "losses", "tracked"])
def test_bombs_take_no_memory(bomb: bytes, field: str) -> None:
    data = codec.HEAD + b"\x81" + msgspec.msgpack.encode(field) + bomb
    tracemalloc.start()
    try:
        with pytest.raises(BadSnapshot):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_too_much_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_BYTES", len(ENCODED) - 1)
    with pytest.raises(BadSnapshot, match="limit"):
        decode(ENCODED)
