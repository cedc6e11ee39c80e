# SPDX-License-Identifier: Apache-2.0
"""The state record: written in turns, whole or not at all; and the document in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slabmon.kernel.devres.ledger import LedgerState
from slabmon.kernel.devres.walker import DeviceIdentity
from slabmon.kernel.session_state import SessionState
from slabmon.kernel.symbols.kallsyms import Location, ModuleHistory
from slabmon.state.record_map import BYTES, RecordTooLarge, StateRecord

STATE = SessionState(
    since=1e9,
    started=5.5,
    suspended_before=7.25,
    events_taken=1 << 40,
    modules=ModuleHistory((("nvme", [(1, 2), (3, 4)], 0, 1 << 32),), 7),
    locations={((1 << 64) - 1, 3): Location("probe", 16, "nvme")},
    caches=((0xFFFF888100010001, "mlx5#2", True), (64, "gone", False)),
    ledger=LedgerState(((DeviceIdentity("pci", "0000:00:01.0", "nvme", None), 5, 3),), 1, 2),
)


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("record")
    os.ftruncate(descriptor, BYTES)
    yield descriptor
    os.close(descriptor)


def test_nothing_written_is_no_document(memory: int) -> None:
    assert StateRecord(memory).read() is None


def test_the_last_document_is_read_back_by_another_process(memory: int) -> None:
    for number in range(5):
        StateRecord(memory).read()
        writer = StateRecord(memory)
        writer.read()
        writer.write({"number": number})
        assert StateRecord(memory).read() == {"number": number}


def test_a_writer_that_dies_halfway_leaves_the_document_before(memory: int) -> None:
    record = StateRecord(memory)
    record.write({"number": 1})
    record.write({"number": 2})
    for slot in (0, BYTES // 2):
        os.pwrite(memory, b"\xff" * 8, slot + 20)  # into the payload
        if slot == 0:  # the second document is in the first slot
            assert StateRecord(memory).read() == {"number": 1}
    assert StateRecord(memory).read() is None


def test_what_does_not_fit_leaves_the_old_document(memory: int) -> None:
    record = StateRecord(memory)
    record.write({"number": 1})
    with pytest.raises(RecordTooLarge, match="at most"):
        record.write({"noise": os.urandom(BYTES).hex()})
    assert StateRecord(memory).read() == {"number": 1}


@given(st.binary(max_size=200), st.integers(0, 300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_document_or_none(memory: int, data: bytes, place: int) -> None:
    StateRecord(memory).write({"number": 1})
    os.pwrite(memory, data, place)
    os.pwrite(memory, data, BYTES // 2 + place)
    found = StateRecord(memory).read()
    assert found is None or isinstance(found, dict)


def test_a_session_state_survives_json() -> None:
    assert SessionState.parse(json.loads(json.dumps(STATE.document()))) == STATE
    document = json.loads(json.dumps(STATE.without_locations().document()))
    assert SessionState.parse(document).locations == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.sampled_from([*STATE.document(), ""]), JSON)
def test_any_other_document_is_a_value_error(key: str, value: object) -> None:
    document = json.loads(json.dumps(STATE.document())) | {key: value}
    try:
        SessionState.parse(document if key else value)
    except ValueError:
        return
