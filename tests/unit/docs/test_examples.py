# SPDX-License-Identifier: Apache-2.0
"""Examples and commands of the guides do what they say: each is parsed, and each filter is run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from dashboards.queries import METRICS
from slabmon.cli.main import build_parser
from slabmon.daemon.config import Config, load
from slabmon.export import census, leaks, memory, text
from slabmon.kernel.exact_filter import Filter
from slabmon.leaks.finding import Assessment
from slabmon.model import Slabinfo
from tests.servers.synthetic import HOST_CENSUS, VERDICT
from tests.support.boards import parsed
from tests.support.builders import cache, site, snapshot
from tests.support.paths import ROOT
from tests.unit.export.test_memory import LEDGER

EXAMPLES = ROOT / "examples"
GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))
DOCUMENTS = {
    "snapshot": text.to_json(
        snapshot(
            caches=(cache("kmalloc-large"), cache(slabinfo=Slabinfo(1, 2, 64, 4096))),
            sites=(site("probe_card", 0x40, "card"),),
            losses={"nesting": 7},
        )
    ),
    "census": census.to_json(HOST_CENSUS),
    "memory": memory.to_json(LEDGER),
    "leaks": json.dumps(
        leaks.to_dict(
            Assessment(
                observed=1.0, needed=1.0, series=1, left_out=0, memory=1 << 30, verdicts=(VERDICT,)
            )
        )
    ),
}


def lines(name: str) -> list[str]:
    found = (EXAMPLES / name).read_text().splitlines()
    return [line for line in found if line and line[0] != "#"]


@pytest.mark.parametrize("name", ["quiet.toml", "history.toml"])
def test_configurations_are_valid_and_change_something(name: str) -> None:
    assert load(EXAMPLES / name, {}) != Config()


def test_filters_are_valid() -> None:
    for line in lines("filters.txt"):
        filter_text, about = re.split(" {2,}", line, maxsplit=1)
        assert Filter.parse(filter_text)
        assert about


def test_promql_asks_for_metrics_that_there_are() -> None:
    for line in lines("queries.promql"):
        asked = set(parsed(line).names)
        assert asked
        assert asked <= set(METRICS), line


def test_jq_finds_something() -> None:
    written = lines("queries.jq.txt")
    for command, query in zip(written[::2], written[1::2], strict=True):
        document = DOCUMENTS[command.split()[1]]
        done = subprocess.run(
            ["jq", "-r", query], input=document, text=True, check=True, capture_output=True
        )
        assert done.stdout.strip(), query
        assert not done.stderr


def commands() -> Iterator[str]:
    """Yield the commands of slabmon in code of guides, without what they are piped into."""
    for guide in GUIDES:
        for block in re.findall(r"```\n(.*?)```", guide.read_text(), re.S):
            for line in block.splitlines():
                if line.startswith("slabmon "):
                    yield line
    yield from lines("queries.jq.txt")[::2]


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_are_accepted(command: str) -> None:
    words = shlex.split(re.split(r" [|>](?: |$)", command)[0])
    build_parser().parse_args(words[1:])
