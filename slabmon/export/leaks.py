# SPDX-License-Identifier: Apache-2.0
"""Assessments as a document for programs (JSON) and as text for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NotRequired, TypedDict

from slabmon.base.activity import Activity
from slabmon.base.escape import printable
from slabmon.base.format import duration, human
from slabmon.base.units import BYTES, BYTES_PER_HOUR
from slabmon.leaks.finding import (
    Assessment,
    Dismissal,
    Exhaustion,
    Finding,
    Holders,
    Kind,
    Part,
    Strength,
)

SCHEMA = 1
SHARE = 0.1
# Suspects with a series of their own; the growth of the others is summed.
MAX_SUSPECTS = 20
_DISMISSED_SHOWN = 10


class Projection(TypedDict):
    """When growth at the present pace will have used the memory that is available, with a 95 %
    interval."""

    available_bytes: int
    seconds: int
    earliest_seconds: int
    latest_seconds: int


class PartEntry(TypedDict):
    """One of the suspects that grow in lockstep."""

    kind: Kind
    suspect: str
    growth_bytes_per_hour: int
    low_bytes_per_hour: int
    high_bytes_per_hour: int


class Entry(TypedDict):
    """One finding. `dismissal` is null for a verdict, else a code of finding.Dismissal; `aliases`
    are the other names of merged caches, `callers` functions with their shares, `exhaustion` the
    projection of an early finding. `processes`, `cgroups` and `containers`, with their shares,
    allocated most of what survives, with `stack`, innermost frame first, for a share of
    `stack_share`; at most `orphan_bytes` of it are orphans (null: not known). `parts` grow in
    lockstep; `reproduce` is a command. Earlier daemons sent none of these."""

    kind: Kind
    suspect: str
    strength: Strength
    growth_bytes_per_hour: int
    low_bytes_per_hour: int
    high_bytes_per_hour: int
    window_seconds: float
    grown_bytes: int
    live_bytes: int
    p: float
    share_seconds: int | None
    module: str | None
    drivers: list[str]
    devices: list[str]
    caches: list[str]
    sites: list[str]
    evidence_for: list[str]
    evidence_against: list[str]
    dismissed: str
    dismissal: NotRequired[str | None]
    aliases: NotRequired[dict[str, list[str]]]
    callers: NotRequired[list[str]]
    exhaustion: NotRequired[Projection]
    processes: NotRequired[list[str]]
    cgroups: NotRequired[list[str]]
    containers: NotRequired[list[str]]
    stack: NotRequired[list[str]]
    stack_share: NotRequired[float]
    orphan_bytes: NotRequired[int | None]
    parts: NotRequired[list[PartEntry]]
    reproduce: NotRequired[str]


class Document(TypedDict):
    """The output of `slabmon leaks --format json` and GET /api/v1/leaks, described in
    docs/verdicts.md. Units are seconds, bytes, and bytes per hour."""

    schema: int
    observed_seconds: float
    needed_seconds: float
    ready: bool
    tested_series: int
    left_out_series: int
    share_of_memory: float
    verdicts: list[Entry]
    dismissed: list[Entry]
    tracking: NotRequired[str]
    exhausting: NotRequired[list[Entry]]


def to_dict(assessment: Assessment, share: float = SHARE) -> Document:
    """Return an assessment as a document, with the projected time until each suspect holds this
    share of the memory."""
    amount = share * assessment.memory
    return {
        "schema": SCHEMA,
        "observed_seconds": round(assessment.observed, 3),
        "needed_seconds": assessment.needed,
        "ready": assessment.ready,
        "tested_series": assessment.series,
        "left_out_series": assessment.left_out,
        "share_of_memory": share,
        "verdicts": [_finding(finding, amount) for finding in assessment.verdicts],
        "dismissed": [_finding(finding, amount) for finding in assessment.dismissed],
        "tracking": assessment.activity,
        "exhausting": [_finding(finding, amount) for finding in assessment.exhausting],
    }


def _finding(finding: Finding, amount: float) -> Entry:
    projected = finding.seconds_to(amount) if amount else None
    entry: Entry = {
        "kind": finding.kind,
        "suspect": finding.name,
        "strength": finding.strength,
        "growth_bytes_per_hour": round(finding.growth),
        "low_bytes_per_hour": round(finding.low),
        "high_bytes_per_hour": round(finding.high),
        "window_seconds": round(finding.window, 3),
        "grown_bytes": round(finding.grown),
        "live_bytes": round(finding.live),
        "p": finding.p,
        "share_seconds": None if projected is None else round(projected),
        "module": finding.module or None,
        "drivers": list(finding.drivers),
        "devices": list(finding.devices),
        "caches": list(finding.caches),
        "sites": list(finding.sites),
        "evidence_for": list(finding.evidence_for),
        "evidence_against": list(finding.evidence_against),
        "dismissed": finding.dismissed,
        "dismissal": finding.dismissal,
        "callers": list(finding.callers),
        "aliases": {cache: list(names) for cache, names in finding.aliases.items()},
        "processes": list(finding.holders.processes),
        "cgroups": list(finding.holders.cgroups),
        "containers": list(finding.holders.containers),
        "stack": list(finding.holders.stack),
        "stack_share": round(finding.holders.stack_share, 3),
        "orphan_bytes": finding.orphans,
        "parts": [
            {
                "kind": part.kind,
                "suspect": part.name,
                "growth_bytes_per_hour": round(part.growth),
                "low_bytes_per_hour": round(part.low),
                "high_bytes_per_hour": round(part.high),
            }
            for part in finding.parts
        ],
        "reproduce": finding.reproduce,
    }
    if finding.exhaustion is not None:
        entry["exhaustion"] = {
            "available_bytes": round(finding.exhaustion.available),
            "seconds": round(finding.exhaustion.seconds),
            "earliest_seconds": round(finding.exhaustion.earliest),
            "latest_seconds": round(finding.exhaustion.latest),
        }
    return entry


def from_dict(document: Document) -> Assessment:
    """Return the assessment that a document describes, in whole bytes. The host's memory is not in
    the document (0)."""
    return Assessment(
        observed=document["observed_seconds"],
        needed=document["needed_seconds"],
        series=document["tested_series"],
        left_out=document["left_out_series"],
        memory=0,
        verdicts=tuple(_from_entry(entry) for entry in document["verdicts"]),
        dismissed=tuple(_from_entry(entry) for entry in document["dismissed"]),
        activity=Activity(document.get("tracking", Activity.AWAKE)),
        exhausting=tuple(_from_entry(entry) for entry in document.get("exhausting", [])),
    )


def _from_entry(entry: Entry) -> Finding:
    code = entry.get("dismissal")
    return Finding(
        kind=entry["kind"],
        key=entry["suspect"],
        name=entry["suspect"],
        module=entry["module"] or "",
        drivers=tuple(entry["drivers"]),
        devices=tuple(entry["devices"]),
        caches=tuple(entry["caches"]),
        sites=tuple(entry["sites"]),
        strength=entry["strength"],
        growth=entry["growth_bytes_per_hour"],
        low=entry["low_bytes_per_hour"],
        high=entry["high_bytes_per_hour"],
        window=entry["window_seconds"],
        grown=entry["grown_bytes"],
        live=entry["live_bytes"],
        p=entry["p"],
        evidence_for=tuple(entry["evidence_for"]),
        evidence_against=tuple(entry["evidence_against"]),
        dismissed=entry["dismissed"],
        # A newer daemon can have codes that this version does not know.
        dismissal=Dismissal(code) if code in list(Dismissal) else None,
        callers=tuple(entry.get("callers", [])),
        aliases={cache: tuple(names) for cache, names in entry.get("aliases", {}).items()},
        exhaustion=_from_projection(entry.get("exhaustion")),
        holders=Holders(
            processes=tuple(entry.get("processes", [])),
            cgroups=tuple(entry.get("cgroups", [])),
            containers=tuple(entry.get("containers", [])),
            stack=tuple(entry.get("stack", [])),
            stack_share=entry.get("stack_share", 0.0),
        ),
        parts=tuple(
            Part(
                kind=part["kind"],
                name=part["suspect"],
                growth=part["growth_bytes_per_hour"],
                low=part["low_bytes_per_hour"],
                high=part["high_bytes_per_hour"],
            )
            for part in entry.get("parts", [])
        ),
        orphans=entry.get("orphan_bytes"),
    )


def _from_projection(projection: Projection | None) -> Exhaustion | None:
    if projection is None:
        return None
    return Exhaustion(
        available=projection["available_bytes"],
        seconds=projection["seconds"],
        earliest=projection["earliest_seconds"],
        latest=projection["latest_seconds"],
    )


def suspects(assessment: Assessment, other: str) -> Iterable[tuple[tuple[str, ...], float]]:
    """Yield kind, suspect and module, and growth in bytes per second, of the fastest MAX_SUSPECTS;
    the others are summed under `other`. Gauges need no memory of which series there were."""
    for finding in assessment.verdicts[:MAX_SUSPECTS]:
        yield (finding.kind, finding.name, finding.module), finding.bytes_per_second
    rest = [finding.bytes_per_second for finding in assessment.verdicts[MAX_SUSPECTS:]]
    if rest:
        yield (other,) * 3, sum(rest)


def suspect_infos(assessment: Assessment) -> Iterable[tuple[tuple[str, ...], float]]:
    """Yield the labels of the fastest MAX_SUSPECTS: kind, suspect, module, and the process, the
    container or else the cgroup, and the caller with most of it."""
    for finding in assessment.verdicts[:MAX_SUSPECTS]:
        holders = finding.holders
        who = (holders.processes, holders.containers or holders.cgroups, finding.callers)
        named = (names[0].rpartition(" ")[0] if names else "" for names in who)
        yield (finding.kind, finding.name, finding.module, *named), 1.0


def exhaustions(
    assessment: Assessment, value: Callable[[Finding, Exhaustion], float]
) -> Iterable[tuple[tuple[str, ...], float]]:
    """Yield kind, suspect and module, and a value, of the fastest MAX_SUSPECTS early findings."""
    for finding in assessment.exhausting[:MAX_SUSPECTS]:
        if finding.exhaustion is not None:
            labels = finding.kind, finding.name, finding.module
            yield labels, value(finding, finding.exhaustion)


def dismissals(assessment: Assessment) -> Iterable[tuple[tuple[str], float]]:
    """Yield each code of a dismissal and how many findings it dismissed."""
    for code in Dismissal:
        yield (code,), sum(finding.dismissal == code for finding in assessment.dismissed)


def to_text(document: Document) -> str:
    """Return a document of to_dict() as text for people."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Document) -> Iterable[str]:
    observed, needed = document["observed_seconds"], document["needed_seconds"]
    for early in document.get("exhausting", []):
        yield from _early(early)
        yield ""
    yield from _conclusion(document)
    for verdict in document["verdicts"]:
        yield ""
        yield from _verdict(verdict, document["share_of_memory"])
    dismissed = document["dismissed"]
    if dismissed:
        yield ""
        yield "Growth that is not a leak, and why:"
        for finding in dismissed[:_DISMISSED_SHOWN]:
            suspect = f"{finding['kind']} {finding['suspect']}"
            yield printable(f"  {suspect}, {_pace(finding)}: {finding['dismissed']}")
        if len(dismissed) > _DISMISSED_SHOWN:
            yield f"  and {len(dismissed) - _DISMISSED_SHOWN} more (--format json)"
    yield ""
    tested = document["tested_series"]
    yield f"Watched for {duration(observed)}; {tested} series were tested for growth." + (
        f" {document['left_out_series']} were not, because there are too many."
        if document["left_out_series"]
        else ""
    )
    if observed < needed:
        yield f"A verdict needs at least {duration(needed)}, a slow leak more."
        yield (
            "What was allocated before, grown or not, is seen at once: slabmon top --view overview "
            "names the largest caches, slabmon census what is in them and whose it is."
        )


def _conclusion(document: Document) -> Iterable[str]:
    count = len(document["verdicts"])
    if count:
        yield f"{count} suspected leak{'s' if count > 1 else ''}."
    elif document["ready"]:
        yield "No leak is suspected."
    elif document.get("tracking") == Activity.ASLEEP:
        yield "No memory has grown lately: tracking is asleep, and wakes when some does."
    elif document.get("tracking") == Activity.OFF:
        yield "Growth is not watched: tracking is off (tracking.when in the configuration)."
    else:
        yield "Too early to tell: nothing can be concluded yet."


def projection_text(projection: Projection) -> str:
    """Return a projection as text: time, interval, and what is available."""
    return (
        f"{human(projection['available_bytes'], BYTES)} of available memory last for "
        f"{duration(projection['seconds'])} at this pace (95 % interval "
        f"{duration(projection['earliest_seconds'])} to {duration(projection['latest_seconds'])})"
    )


def _early(entry: Entry) -> Iterable[str]:
    yield printable(f"Memory is being exhausted by {entry['kind']} {entry['suspect']}:")
    low, high = entry["low_bytes_per_hour"], entry["high_bytes_per_hour"]
    yield (
        f"  grows by {human(entry['growth_bytes_per_hour'] / 60, BYTES)} a minute (95 % interval "
        f"{human(low / 60, BYTES)} to {human(high / 60, BYTES)}), holds "
        f"{human(entry['live_bytes'], BYTES)}"
    )
    if "exhaustion" in entry:
        yield f"  {projection_text(entry['exhaustion'])}"
    yield from _details(entry)


def _with_aliases(verdict: Entry, cache: str) -> str:
    names = verdict.get("aliases", {}).get(cache)
    return f"{cache} (also {', '.join(names)})" if names else cache


def _pace(finding: Entry) -> str:
    """Return its rate, or if growth ended within the window, by how much it grew."""
    if finding["growth_bytes_per_hour"]:
        return f"{human(finding['growth_bytes_per_hour'], BYTES_PER_HOUR)}/h"
    return f"{human(finding['grown_bytes'], BYTES)} in {duration(finding['window_seconds'])}"


def _verdict(verdict: Entry, share: float) -> Iterable[str]:
    low, high = verdict["low_bytes_per_hour"], verdict["high_bytes_per_hour"]
    yield printable(f"{verdict['kind']} {verdict['suspect']}: {verdict['strength']}")
    line = (
        f"  grows by {human(verdict['growth_bytes_per_hour'], BYTES)}/h (95 % interval "
        f"{human(low, BYTES)} to {human(high, BYTES)})"
    )
    line += f", holds {human(verdict['live_bytes'], BYTES)}"
    if verdict["share_seconds"] is not None:
        line += f"; {share:.0%} of memory in {duration(verdict['share_seconds'])}"
    yield line
    yield from _details(verdict)


def _details(verdict: Entry) -> Iterable[str]:
    for title, value in (
        ("module", [name for name in [verdict["module"]] if name]),
        ("drivers", verdict["drivers"]),
        ("devices", verdict["devices"]),
        ("caches", [_with_aliases(verdict, cache) for cache in verdict["caches"]]),
        ("sites", verdict["sites"] if verdict["kind"] != "site" else []),
        ("callers", verdict.get("callers", [])),
        ("processes", verdict.get("processes", [])),
        ("containers", verdict.get("containers", [])),
        ("cgroups", verdict.get("cgroups", [])),
        ("parts", [_part(part) for part in verdict.get("parts", [])]),
    ):
        if value:
            yield printable(f"  {title}: {', '.join(value)}")
    if verdict.get("stack"):
        share = verdict.get("stack_share", 0.0)
        yield printable(f"  stack of {share:.0%}: {' < '.join(verdict['stack'])}")
    orphans = verdict.get("orphan_bytes")
    if orphans is not None:
        yield f"  at most {human(orphans, BYTES)} of it are orphans, by the last census"
    for title, sentences in (
        ("for", verdict["evidence_for"]),
        ("against", verdict["evidence_against"]),
    ):
        for sentence in sentences:
            yield printable(f"  {title + ':':8} {sentence}")
    if verdict.get("reproduce"):
        yield printable(f"  look at each allocation: {verdict['reproduce']}")


def _part(part: PartEntry) -> str:
    return f"{part['kind']} {part['suspect']} {human(part['growth_bytes_per_hour'], BYTES)}/h"
