# SPDX-License-Identifier: Apache-2.0
"""Manual pages and shell completions: current, valid, complete."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path

import pytest

from slabmon.cli.main import build_parser
from slabmon.daemon.options import OPTIONS
from tests.support.paths import ROOT

MAN = ROOT / "docs/man"
COMPLETIONS = ROOT / "packaging/completion"
COMMANDS = ["census", "check"]  # those with c


def output(*command: str | Path, stdin: str = "") -> str:
    """Return standard output and errors of a command that has to succeed."""
    done = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_pages_and_completions_are_up_to_date() -> None:
    """`make docs` writes them."""
    pages = runpy.run_path(str(ROOT / "packaging/manpages.py"))["PAGES"]
    made = {MAN / name: make() for name, make in pages.items()}
    completions = runpy.run_path(str(ROOT / "packaging/completions.py"))
    for name, shell in completions["FILES"].items():
        made[COMPLETIONS / name] = completions["completion"](shell)
    assert {*MAN.iterdir(), *COMPLETIONS.iterdir()} == set(made)
    for path, text in made.items():
        assert path.read_text() == text, f"{path}: run make docs"


@pytest.mark.parametrize("page", sorted(MAN.iterdir()), ids=lambda page: page.name)
def test_a_page_is_valid(page: Path) -> None:
    assert output("mandoc", "-T", "lint", page) == ""


def test_pages_have_every_command_and_setting() -> None:
    commands, settings = (
        (MAN / name).read_text().replace(r"\-", "-") for name in ("slabmon.1", "slabmon.toml.5")
    )
    (names,) = (action.choices for action in build_parser()._actions if action.choices)
    for name in names:
        assert f".SS slabmon {name}\n" in commands
    for option in OPTIONS:
        assert rf"\fB{option.name}\fR = \fI" in settings
        assert rf"Flag: \fB{option.flag}\fR." in " ".join(settings.split())


def test_bash_completes_commands() -> None:
    script = (
        f". {COMPLETIONS}/slabmon.bash; COMP_WORDS=(slabmon c); COMP_CWORD=1; "
        '_shtab_slabmon; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert sorted(output("bash", "--norc", "-c", script).split()) == COMMANDS


def test_fish_completes_commands_and_files() -> None:
    source = f"source {COMPLETIONS}/slabmon.fish; complete --do-complete"
    found = output("fish", "--no-config", "-c", f"{source} 'slabmon c'")
    assert sorted(line.split("\t")[0] for line in found.splitlines()) == COMMANDS
    files = output("fish", "--no-config", "-c", f"{source} 'slabmon serve --config {MAN}/sl'")
    assert sorted(files.split()) == sorted(str(path) for path in MAN.iterdir())


def test_zsh_takes_the_completion() -> None:
    output("zsh", "-f", "-n", COMPLETIONS / "_slabmon")
    assert (COMPLETIONS / "_slabmon").read_text().startswith("#compdef slabmon\n")
