# SPDX-License-Identifier: Apache-2.0
"""The report of `slabmon run` in each of its forms."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from slabmon.analysis.leftovers import LeftDevice, Leftovers, LeftStack, Reason
from slabmon.base.fields import Host
from slabmon.export.leftovers import Format, RunReport, render
from tests.support.builders import site

ROW = LeftStack(
    cache="kmalloc-512",
    site=site("open_thing", 0x1C, "thing"),
    stack=("open_thing [thing]", "vfs_open", "do_syscall_64"),
    objects=7,
    bytes=3584,
    requested_bytes=2317,
    processes={"cat": 6, "dd": 1},
    youngest_seconds=1.5,
    oldest_seconds=2.0,
)
LEFT = Leftovers(
    stacks=(ROW,),
    devices=(LeftDevice("pci", "0000:00:03.0", "thing", "thing", 2, 4096),),
    not_judged={Reason.INTERRUPT: 3},
)
CLEAN = RunReport(
    host=Host("6.12.0-test", "x86_64", 4, "7f0c0000-0000-4000-8000-000000000001"),
    command=("sh", "-c", "cat /dev/thing"),
    exit_code=0,
    signal=None,
    seconds=1.25,
    settled_seconds=0.5,
    filter="",
    left=Leftovers(),
    freed_unseen=5,
    losses={"samples_full": 0},
    notes=(),
)
LEAKY = replace(
    CLEAN,
    filter="module=thing",
    exit_code=3,
    left=LEFT,
    losses={"samples_full": 2, "cache_slots_full": 9, "stack_collision": 4},
    notes=("still running: sleep (7)",),
)


def test_a_clean_command_left_nothing() -> None:
    assert render(CLEAN, Format.TABLE) == "slabmon: nothing left by sh -c 'cat /dev/thing'\n"
    assert render(CLEAN, Format.MAIL).startswith("Kernel memory: nothing left\n")


def test_the_table_has_the_verdict_remarks_and_each_stack() -> None:
    assert (
        render(LEAKY, Format.TABLE)
        == """\
slabmon: 7 objects, 3.5 KiB left by sh -c 'cat /dev/thing'
slabmon: not counted: 3 allocated in interrupts, for anybody
slabmon: 2 events of this host were lost meanwhile: if allocations of the command are among them, \
what they left is not listed
slabmon: still running: sleep (7)

7 objects, 3.5 KiB, kmalloc-512, by cat, dd, 1.5s to 2.0s old
    open_thing+0x1c [thing]
    vfs_open
    do_syscall_64

Managed resources that devices hold more than before:
    pci/0000:00:03.0 (thing): 2, 4.0 KiB
"""
    )


def test_a_mail_says_where_and_how_and_no_line_needs_wrapping() -> None:
    text = render(LEAKY, Format.MAIL)
    assert "Command:  sh -c 'cat /dev/thing'" in text
    assert "Linux 6.12.0-test x86_64, 4 CPUs" in text
    assert "run --exact module=thing" in text
    assert "[1] 7 objects of kmalloc-512, 3584 bytes (2317 requested)" in text
    assert "  Call Trace:\n    open_thing+0x1c [thing]\n    vfs_open\n" in text
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 72


def test_json_has_exact_numbers() -> None:
    document = json.loads(render(LEAKY, Format.JSON))
    assert document["schema"] == 1
    assert document["command"] == ["sh", "-c", "cat /dev/thing"]
    assert (document["exit_code"], document["signal"]) == (3, None)
    assert document["filter"] == "module=thing"
    assert document["left"] == {"objects": 7, "bytes": 3584}
    assert document["stacks"] == [
        {
            "objects": 7,
            "bytes": 3584,
            "requested_bytes": 2317,
            "cache": "kmalloc-512",
            "site": {"symbol": "open_thing", "offset": 0x1C, "module": "thing"},
            "stack": ["open_thing [thing]", "vfs_open", "do_syscall_64"],
            "processes": {"cat": 6, "dd": 1},
            "youngest_seconds": 1.5,
            "oldest_seconds": 2.0,
        }
    ]
    assert document["devices"][0]["resources"] == 2
    assert document["not_judged"] == {"interrupt": 3}
    assert document["losses"] == {"samples_full": 2, "cache_slots_full": 9, "stack_collision": 4}
    assert json.loads(render(CLEAN, Format.JSON))["filter"] is None


def cases(report: RunReport) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(render(report, Format.JUNIT))
    (suite,) = root.findall("testsuite")
    found = {case.attrib["name"]: case for case in suite.findall("testcase")}
    assert int(suite.attrib["tests"]) == len(found)
    failed = [case for case in found.values() if case.find("failure") is not None]
    assert int(suite.attrib["failures"]) == len(failed)
    return found


def test_junit_has_a_case_for_the_status_and_one_for_the_memory() -> None:
    assert {name: case.find("failure") for name, case in cases(CLEAN).items()} == {
        "exit status": None,
        "kernel memory": None,
    }
    found = cases(LEAKY)
    status, memory = (found[name].find("failure") for name in ("exit status", "kernel memory"))
    assert status is not None
    assert status.attrib["message"] == "exit status 3"
    assert memory is not None
    assert memory.attrib["message"] == "7 objects, 3.5 KiB left"
    assert "open_thing+0x1c [thing]" in (memory.text or "")


def test_junit_is_xml_whatever_the_command_is_called() -> None:
    odd = replace(LEAKY, command=("a<b>&\"'\x01\x1b\ud800\ufffe",), exit_code=137, signal=9)
    status = cases(odd)["exit status"].find("failure")
    assert status is not None
    assert status.attrib["message"] == "ended by signal 9"


def test_an_inlined_call_site_does_not_hide_a_caller() -> None:
    row = replace(ROW, stack=("outer_thing [thing]", "vfs_open"))
    text = render(replace(CLEAN, left=Leftovers(stacks=(row,))), Format.TABLE)
    assert "    open_thing+0x1c [thing]\n    outer_thing [thing]\n    vfs_open\n" in text


@pytest.mark.parametrize(("names", "text"), [(1, "p0"), (3, "p0, p1, p2"), (5, "and 2 more")])
def test_only_some_processes_are_named(names: int, text: str) -> None:
    row = replace(ROW, processes={f"p{number}": 1 for number in range(names)})
    assert f"by {text}," in render(
        replace(CLEAN, left=Leftovers(stacks=(row,))), Format.TABLE
    ) or text in render(replace(CLEAN, left=Leftovers(stacks=(row,))), Format.TABLE)
