# SPDX-License-Identifier: Apache-2.0
"""Whether anything leaks, at the moment that a report is about, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from slabmon.base.errors import SlabmonError
from slabmon.base.format import duration, human
from slabmon.base.units import BYTES
from slabmon.export.leaks import SHARE, to_dict
from slabmon.report.summary import Sentence
from slabmon.runtime.progress import track
from slabmon.sources import Past, lookback
from slabmon.sources.daemon import DaemonSource

if TYPE_CHECKING:
    from slabmon.export.leaks import Document, Entry
    from slabmon.store.recording import TimedSnapshot

_MOST = 10


def judged(past: Past, now: TimedSnapshot) -> Document | None:
    """What can be said at a recorded moment; None of a host so large that it would take long."""
    found = lookback.judged(past, now, lambda times: track(times, len(times), "judging"))
    return None if found is None else to_dict(found)


def asked(daemon: DaemonSource, at: float | None) -> Document | None:
    """What a daemon says, at a Unix time of its history or now; None if it cannot."""
    try:
        return daemon.leaks(SHARE, at)
    except SlabmonError:
        return None


def suspicions(document: Document | None) -> Iterable[Sentence]:
    """All that is to be said of it."""
    if document is None:
        yield Sentence("leaks", "Whether anything leaks was not judged here; `slabmon leaks` does.")
        return
    observed, needed = document["observed_seconds"], document["needed_seconds"]
    watched = f"watched for {duration(observed)}, {document['tested_series']:,} series tested"
    found = document["verdicts"]
    if found:
        count = "One leak is" if len(found) == 1 else f"{len(found)} leaks are"
        yield Sentence("leaks", f"{count} suspected ({watched}).")
    elif document["ready"]:
        yield Sentence("leaks", f"No leak is suspected ({watched}).")
    else:
        yield Sentence(
            "leaks",
            f"Whether anything leaks cannot be told from {duration(observed)}: "
            f"a verdict takes {duration(needed)} of watching at least.",
        )
    for entry in found[:_MOST]:
        yield Sentence("leaks", _verdict(entry))


def _verdict(entry: Entry) -> str:
    low, high = entry["low_bytes_per_hour"], entry["high_bytes_per_hour"]
    growth, live = entry["growth_bytes_per_hour"], entry["live_bytes"]
    text = (
        f"{entry['kind']} {entry['suspect']}, {entry['strength']}: it grows by "
        f"{human(growth, BYTES)} an hour (95 % interval {human(low, BYTES)} to "
        f"{human(high, BYTES)}) and holds {human(live, BYTES)}. "
        f"For it: {'; '.join(entry['evidence_for'])}."
    )
    if entry["evidence_against"]:
        text += f" Against it: {'; '.join(entry['evidence_against'])}."
    return text
