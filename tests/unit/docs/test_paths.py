# SPDX-License-Identifier: Apache-2.0
"""Files of this tree that the documentation names or links are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TOPS = "slabmon|bpf|tests|benchmarks|dashboards|docs|packaging|systemd"
NAMED = re.compile(rf"(?<![\w/.@-])(?:{TOPS})(?:/[\w.-]+)+")
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(
            page
            for top in (*TOPS.split("|"), "examples")
            for page in (ROOT / top).rglob("*.md")
            if "node_modules" not in page.parts
        ),
    ]
)


def missing(page: Path) -> Iterator[str]:
    text = page.read_text()
    for name in NAMED.findall(text):
        path = ROOT / name.rstrip(".")
        if not path.exists() and not path.with_name(path.name + ".py").exists():
            yield name
    yield from (link for link in LINK.findall(text) if not (page.parent / link).exists())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_are_there(page: Path) -> None:
    assert list(missing(page)) == []
