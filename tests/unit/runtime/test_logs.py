# SPDX-License-Identifier: Apache-2.0
"""Log lines: journald's protocol, and holding back what comes too often."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slabmon.base.errors import UsageError
from slabmon.runtime.logs import (
    BURST,
    SECONDS,
    JournalHandler,
    LogSettings,
    RateLimit,
    journal_field,
    set_up,
    to_journal,
)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    result = logging.getLogger("test-logs")
    result.propagate = False
    result.setLevel("DEBUG")
    yield result
    for handler in result.handlers[:]:
        result.removeHandler(handler)


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def test_a_line_has_fields_in_the_journal(tmp_path: Path, logger: logging.Logger) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        handler = JournalHandler(path)
        logger.addHandler(handler)
        logger.warning("state %s", "changed")
        fields = dict(line.split("=", 1) for line in journal.recv(65536).decode().splitlines())
        handler.close()
    assert fields["MESSAGE"] == "state changed"
    assert fields["PRIORITY"] == "4"
    assert fields["SYSLOG_IDENTIFIER"] == "slabmon"
    assert fields["CODE_FUNC"] == "test_a_line_has_fields_in_the_journal"


def test_text_of_several_lines_cannot_forge_a_field() -> None:
    data = journal_field("MESSAGE", "one\nPRIORITY=0")
    assert data == b"MESSAGE\n" + (14).to_bytes(8, "little") + b"one\nPRIORITY=0\n"
    assert journal_field("MESSAGE", "\ud800") == b"MESSAGE=\\ud800\n"


def test_without_journald_the_line_goes_to_standard_error(
    tmp_path: Path, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = JournalHandler(str(tmp_path / "nobody"))
    logger.addHandler(handler)
    logger.error("lost?")
    handler.close()
    assert capsys.readouterr().err == "lost?\n"


def test_a_line_that_repeats_is_held_back_and_counted(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    kept = Kept()
    kept.addFilter(RateLimit())
    logger.addHandler(kept)
    for step in range(2):
        for number in range(BURST + 7):
            logger.info("again %d", number)
        logger.info("another place")
        if step == 0:
            assert kept.lines == [*(f"again {n}" for n in range(BURST)), "another place"]
            kept.lines.clear()
            now += SECONDS
    assert kept.lines == ["again 0 (7 similar lines were held back)", "another place"]


def test_the_journal_is_used_only_where_standard_error_is_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert not to_journal()
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not to_journal()


def test_the_level_can_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers = []
    try:
        set_up(LogSettings("error"))
        set_up(LogSettings("debug"))
        assert len(root.handlers) == 1
        assert root.level == logging.DEBUG
    finally:
        root.handlers, root.level = before, level
    with pytest.raises(UsageError, match="loud"):
        LogSettings("loud")
    assert sys.stderr
