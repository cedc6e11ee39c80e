# SPDX-License-Identifier: Apache-2.0
"""What a command left behind, as a table, as JSON, as JUnit XML, and as text for a mailing list."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from xml.etree import ElementTree

from slabmon import __version__
from slabmon.analysis.callers import function_of
from slabmon.analysis.leftovers import Leftovers, LeftStack
from slabmon.base.fields import Host
from slabmon.base.format import bytes_text, duration
from slabmon.base.losses import LossClass, loss_class

SCHEMA = 1
NOTHING = "nothing left"
_SHOWN_PROCESSES = 3
_MAIL_WIDTH = 72
# Losses that may be of allocations. Lost frees do no harm: what seems to be left is looked for.
_ALLOCATIONS = (LossClass.ALLOC, LossClass.EVENT, LossClass.SAMPLE)
# XML 1.0 has no character for most controls, not even as a reference.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Format(StrEnum):
    """A form of the report."""

    TABLE = "table"
    JSON = "json"
    JUNIT = "junit"
    MAIL = "mail"


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """A command that ran and ended, and what it left.

    `filter` is that of --exact ("": none). `freed_unseen` objects were found free although no event
    had told. `notes` are sentences about what the report cannot say.
    """

    host: Host
    command: Sequence[str]
    exit_code: int
    signal: int | None
    seconds: float
    settled_seconds: float
    filter: str
    left: Leftovers
    freed_unseen: int
    losses: Mapping[str, int]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def title(self) -> str:
        """What is left, in one line."""
        if not self.left.objects:
            return NOTHING
        return f"{_count(self.left.objects)}, {bytes_text(self.left.bytes)} left"


def render(report: RunReport, form: Format) -> str:
    """Return the report in this form, with a newline at the end."""
    writers = {
        Format.TABLE: to_table,
        Format.JSON: to_json,
        Format.JUNIT: to_junit,
        Format.MAIL: to_mail,
    }
    return writers[form](report)


def to_json(report: RunReport) -> str:
    """Return the report as one line of JSON; docs/run.md describes the fields."""
    left = report.left
    document = {
        "schema": SCHEMA,
        "host": dataclasses.asdict(report.host),
        "command": list(report.command),
        "exit_code": report.exit_code,
        "signal": report.signal,
        "seconds": round(report.seconds, 3),
        "settled_seconds": round(report.settled_seconds, 3),
        "filter": report.filter or None,
        "left": {"objects": left.objects, "bytes": left.bytes},
        "stacks": [_stack_dict(row) for row in left.stacks],
        "devices": [dataclasses.asdict(row) for row in left.devices],
        "not_judged": {reason.name.lower(): count for reason, count in left.not_judged.items()},
        "freed_unseen": report.freed_unseen,
        "losses": {reason: count for reason, count in report.losses.items() if count},
        "notes": list(report.notes),
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n"


def _stack_dict(row: LeftStack) -> dict[str, object]:
    site = row.site
    return {
        "objects": row.objects,
        "bytes": row.bytes,
        "requested_bytes": row.requested_bytes,
        "cache": row.cache,
        "site": {"symbol": site.symbol, "offset": site.offset, "module": site.module},
        "stack": list(row.stack),
        "processes": dict(row.processes),
        "youngest_seconds": round(row.youngest_seconds, 3),
        "oldest_seconds": round(row.oldest_seconds, 3),
    }


def to_table(report: RunReport) -> str:
    """Return the report for a terminal: the verdict, then each stack, innermost function first."""
    lines = [f"slabmon: {report.title} by {shlex.join(report.command)}"]
    lines += [f"slabmon: {sentence}" for sentence in _remarks(report)]
    for row in report.left.stacks:
        lines += ["", f"{_count(row.objects)}, {bytes_text(row.bytes)}, {_origin(row)}"]
        lines += [f"    {frame}" for frame in _frames(row)]
    lines += _devices(report)
    return "\n".join(lines) + "\n"


def to_mail(report: RunReport) -> str:
    """Return the report as text for a mailing list: plain ASCII sentences, stacks as in an oops, no
    line that a mailer would have to wrap but names."""
    host = report.host
    lines = [
        f"Kernel memory: {report.title}",
        "",
        f"Command:  {shlex.join(report.command)}",
        f"Result:   {_result(report)}, after {duration(report.seconds)}",
        f"Kernel:   Linux {host.release} {host.machine}, {host.cpus} CPUs",
        f"Tool:     slabmon {__version__} run"
        + (f" --exact {report.filter}" if report.filter else ""),
        f"Settled:  {duration(report.settled_seconds)} after the command's end",
    ]
    for number, row in enumerate(report.left.stacks, 1):
        lines += [
            "",
            f"[{number}] {_count(row.objects)} of {row.cache}, {row.bytes} bytes"
            f" ({row.requested_bytes} requested)",
            f"    by {_processes(row)}; {_ages(row)}",
            "  Call Trace:",
            *(f"    {frame}" for frame in _frames(row)),
        ]
    lines += _devices(report)
    for sentence in _remarks(report):
        lines += ["", *textwrap.wrap(f"Note: {sentence}", _MAIL_WIDTH, subsequent_indent="      ")]
    return "\n".join(lines) + "\n"


def to_junit(report: RunReport) -> str:
    """Return the report as JUnit XML: a test case for the command's exit status, and one for what
    it left."""
    failures = int(report.exit_code != 0) + int(report.left.objects != 0)
    command = shlex.join(report.command)
    suite = ElementTree.Element(
        "testsuite",
        name="slabmon run",
        tests="2",
        failures=str(failures),
        errors="0",
        skipped="0",
        time=f"{report.seconds + report.settled_seconds:.3f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (
        ("command", command),
        ("kernel", report.host.release),
        ("filter", report.filter),
        ("slabmon", __version__),
    ):
        ElementTree.SubElement(properties, "property", name=name, value=_xml(value))
    exited = _case(suite, "exit status", report.seconds)
    if report.exit_code:
        failure = ElementTree.SubElement(exited, "failure", message=_result(report))
        failure.text = _xml(f"{command}: {_result(report)}")
    leaves = _case(suite, "kernel memory", report.settled_seconds)
    if report.left.objects:
        failure = ElementTree.SubElement(leaves, "failure", message=report.title)
        failure.text = _xml(to_mail(report))
    else:
        ElementTree.SubElement(leaves, "system-out").text = _xml(to_mail(report))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        + ElementTree.tostring(root, encoding="unicode")
        + "\n"
    )


def _case(suite: ElementTree.Element, name: str, seconds: float) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname="slabmon.run", name=name, time=f"{seconds:.3f}"
    )


def _xml(text: str) -> str:
    return _NO_XML.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _count(objects: int) -> str:
    return f"{objects} object{'' if objects == 1 else 's'}"


def _origin(row: LeftStack) -> str:
    return f"{row.cache}, by {_processes(row)}, {_ages(row)}"


def _processes(row: LeftStack) -> str:
    names = list(row.processes)
    more = len(names) - _SHOWN_PROCESSES
    return ", ".join(names[:_SHOWN_PROCESSES]) + (f" and {more} more" if more > 0 else "")


def _ages(row: LeftStack) -> str:
    youngest, oldest = duration(row.youngest_seconds), duration(row.oldest_seconds)
    return f"{oldest} old" if youngest == oldest else f"{youngest} to {oldest} old"


def _frames(row: LeftStack) -> list[str]:
    """Return the call site with its offset, and the functions that called it."""
    inlined = bool(row.stack) and function_of(row.stack[0]) != row.site.symbol
    return [row.site.full_label, *row.stack[0 if inlined else 1 :]]


def _devices(report: RunReport) -> list[str]:
    if not report.left.devices:
        return []
    lines = ["", "Managed resources that devices hold more than before:"]
    for row in report.left.devices:
        name = f"{row.bus}/{row.name}" if row.bus else row.name
        lines.append(
            f"    {name} ({row.driver or 'no driver'}): {row.resources}, {bytes_text(row.bytes)}"
        )
    return lines


def _result(report: RunReport) -> str:
    if report.signal is not None:
        return f"ended by signal {report.signal}"
    return f"exit status {report.exit_code}"


def _remarks(report: RunReport) -> list[str]:
    """Return what else there is to know, as sentences without a full stop."""
    remarks = []
    if report.left.not_judged:
        reasons = (f"{count} {reason}" for reason, count in report.left.not_judged.items())
        remarks.append(f"not counted: {'; '.join(reasons)}")
    lost = sum(n for reason, n in report.losses.items() if loss_class(reason) in _ALLOCATIONS)
    if lost:
        remarks.append(
            f"{lost} events of this host were lost meanwhile: if allocations of the command are "
            "among them, what they left is not listed"
        )
    return [*remarks, *report.notes]
