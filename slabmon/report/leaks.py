# SPDX-License-Identifier: Apache-2.0
"""Sentences about suspected leaks at the time of a report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from slabmon.base.activity import Activity
from slabmon.base.errors import SlabmonError
from slabmon.base.format import duration, human
from slabmon.base.units import BYTES
from slabmon.export.leaks import SHARE, projection_text, to_dict
from slabmon.report.summary import Sentence
from slabmon.runtime.progress import track
from slabmon.sources import Past, lookback
from slabmon.sources.daemon import DaemonSource

if TYPE_CHECKING:
    from slabmon.export.leaks import Document, Entry
    from slabmon.store.recording import TimedSnapshot

_MOST = 10


def judged(past: Past, now: TimedSnapshot, damaged: dict[float, str]) -> Document | None:
    """Return the assessment at a recorded time, or None for a host so large that it would take too
    long. `damaged`: see lookback.readable()."""
    assessment = lookback.judged(
        past, now, damaged, lambda times: track(times, len(times), "judging")
    )
    return None if assessment is None else to_dict(assessment)


def asked(daemon: DaemonSource, at: float | None) -> Document | None:
    """Return a daemon's assessment, now (`at` is None) or at a Unix time of its history; None if
    there is none."""
    try:
        return daemon.leaks(SHARE, at)
    except SlabmonError:
        return None


def suspicions(document: Document | None) -> Iterable[Sentence]:
    """Yield the conclusion and the largest suspects."""
    if document is None:
        yield Sentence("leaks", "Leaks were not assessed for this report; use `slabmon leaks`.")
        return
    for entry in document.get("exhausting", [])[:_MOST]:
        yield Sentence("leaks", _early(entry))
    observed, needed = document["observed_seconds"], document["needed_seconds"]
    watched = f"watched for {duration(observed)}, {document['tested_series']:,} series tested"
    verdicts = document["verdicts"]
    if verdicts:
        count = "One leak is" if len(verdicts) == 1 else f"{len(verdicts)} leaks are"
        yield Sentence("leaks", f"{count} suspected ({watched}).")
    elif document.get("tracking", Activity.AWAKE) != Activity.AWAKE:
        yield Sentence("leaks", f"Leaks are not looked for: tracking is {document['tracking']}.")
    elif document["ready"]:
        yield Sentence("leaks", f"No leak is suspected ({watched}).")
    else:
        yield Sentence(
            "leaks",
            f"{duration(observed)} are too short to tell whether anything leaks: a verdict needs "
            f"at least {duration(needed)}.",
        )
    for entry in verdicts[:_MOST]:
        yield Sentence("leaks", _verdict(entry))


def _early(entry: Entry) -> str:
    text = f"{entry['kind']} {entry['suspect']} exhausts memory, an early finding"
    if "exhaustion" in entry:
        text += f": {projection_text(entry['exhaustion'])}"
    sites = f" It is allocated by {', '.join(entry['sites'])}." if entry["sites"] else ""
    return (
        f"{text}.{sites} For it: {'; '.join(entry['evidence_for'])}. Against it: "
        f"{'; '.join(entry['evidence_against'])}."
    )


def _verdict(entry: Entry) -> str:
    low, high = entry["low_bytes_per_hour"], entry["high_bytes_per_hour"]
    growth, live = entry["growth_bytes_per_hour"], entry["live_bytes"]
    text = (
        f"{entry['kind']} {entry['suspect']}, {entry['strength']}: it grows by "
        f"{human(growth, BYTES)} per hour (95 % interval {human(low, BYTES)} to "
        f"{human(high, BYTES)}) and holds {human(live, BYTES)}. "
        f"For it: {'; '.join(entry['evidence_for'])}."
    )
    if entry["evidence_against"]:
        text += f" Against it: {'; '.join(entry['evidence_against'])}."
    return text + _who(entry)


def _who(entry: Entry) -> str:
    """Return who is behind a suspect, as sentences."""
    text = ""
    cgroups = entry.get("containers") or entry.get("cgroups")
    if cgroups:
        text += f" It was allocated in {', '.join(cgroups)}."
    if entry.get("stack"):
        share = entry.get("stack_share", 0.0)
        text += f" The stack of {share:.0%} of it: {' < '.join(entry['stack'])}."
    if entry.get("reproduce"):
        text += f" To look at each allocation: {entry['reproduce']}"
    return text
