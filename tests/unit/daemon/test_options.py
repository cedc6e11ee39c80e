# SPDX-License-Identifier: Apache-2.0
"""The table of settings, and the files made from it."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

from slabmon.daemon.config import Config, load
from slabmon.daemon.options import OPTIONS, TABLES, example, markdown
from tests.support.paths import ROOT


def test_every_setting_is_described_once() -> None:
    described = [option.key for option in OPTIONS]
    existing = [f"{table}.{f.name}" for table, kind in TABLES.items() for f in fields(kind)]
    assert sorted(described) == sorted(existing)
    assert [f.name for f in fields(Config)] == list(TABLES)
    assert len({option.flag for option in OPTIONS}) == len(OPTIONS)


def test_what_has_no_default_says_what_happens_without_it() -> None:
    for option in OPTIONS:
        assert (option.default is None) == bool(option.unset), option.key
        assert (option.default is None) == (option.example is not None), option.key


def test_documents_are_up_to_date() -> None:
    """`make docs` writes them."""
    assert (ROOT / "docs/configuration.md").read_text() == markdown()
    assert (ROOT / "systemd/slabmon.toml").read_text() == example()


def test_the_example_changes_nothing_and_is_valid_without_its_comment_marks(tmp_path: Path) -> None:
    path = tmp_path / "slabmon.toml"
    path.write_text(example())
    assert load(path, {}) == Config()
    bare = [
        line[1:] if line[:1] == "#" and line[1:2].islower() else line
        for line in example().splitlines()
    ]
    path.write_text("\n".join(bare))
    load(path, {})
    document = tomllib.loads(path.read_text())
    assert sum(map(len, document.values())) == len(OPTIONS)
