# SPDX-License-Identifier: Apache-2.0
"""Write packaging/completion: completions of bash, zsh and fish, from the command line's parsers by
shtab (make docs)."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

from slabmon.cli.main import build_parser

FOLDER = Path(__file__).with_name("completion")
FILES = {"slabmon.bash": "bash", "_slabmon": "zsh", "slabmon.fish": "fish"}


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


def completion(shell: str) -> str:
    """Return the completion of one shell."""
    parser = build_parser()
    for action in _actions(parser):
        if action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return f"{shtab.complete(parser, shell)}\n"


if __name__ == "__main__":
    for name, shell in FILES.items():
        (FOLDER / name).write_text(completion(shell))
