# SPDX-License-Identifier: Apache-2.0
"""Decision records have a number, a status and a date, and are listed in their index."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

FOLDER = ROOT / "docs" / "adr"
RECORDS = sorted(FOLDER.glob("0*.md"))


def test_each_record_has_its_number_a_status_and_a_date() -> None:
    for number, path in enumerate(RECORDS, 1):
        text = path.read_text()
        assert path.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number}. ")
        assert re.search(r"^- Status: (accepted|superseded)", text, re.MULTILINE), path.name
        assert re.search(r"^- Date: \d{4}-\d\d-\d\d", text, re.MULTILINE), path.name


def test_the_index_lists_each_record() -> None:
    links = re.findall(r"^\| \[(\d+)\]\((.+?)\)", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert links == [(str(number), path.name) for number, path in enumerate(RECORDS, 1)]
