# SPDX-License-Identifier: Apache-2.0
"""top without a terminal: repeated plain text, for scripts and pipes."""

from __future__ import annotations

import sys
import time
from itertools import count

from slabmon.base.errors import SlabmonError
from slabmon.export.text import to_table
from slabmon.leaks.observer import Observer
from slabmon.runtime.signals import stop_signals
from slabmon.sources import SnapshotSource, request_census
from slabmon.sources.live import LiveSource
from slabmon.sources.lookback import (
    PolledJudge,
    assessment,
    fill_present,
    fill_recorded,
    past_of,
)
from slabmon.sources.recording import RecordingSource
from slabmon.tui.browser import Browser
from slabmon.tui.header import facts
from slabmon.tui.start import Start
from slabmon.views.catalogue import VIEWS
from slabmon.views.overview.view import OVERVIEW, conclusion
from slabmon.views.summary import summarize
from slabmon.views.table import Table
from slabmon.views.window import WindowBuilder


def run(source: SnapshotSource, start: Start) -> int:
    """Print until a signal arrives. Raises SlabmonError if the first reading fails; later failures
    are warnings, and it retries. A local session, which has no past, is watched for one delay
    before the first page: rates over the milliseconds since it began would mean nothing."""
    past, recorded = past_of(source), isinstance(source, RecordingSource)
    judge = None
    if past is not None and not recorded:  # a daemon has its own verdicts
        judge = PolledJudge(lambda: assessment(past, None))
        judge.wanted = True
    history = WindowBuilder(VIEWS.values(), judge or Observer())
    with source, stop_signals() as stopped:
        if isinstance(source, RecordingSource):
            fill_recorded(history, source)
        else:
            fill_present(history, source)
        browser = start.browser(history.add(source.snapshot(details=True)))
        if browser.place.view.census and browser.window.snapshot.census is None:
            request_census(source)
        for number in count(0 if isinstance(source, LiveSource) else 1):
            if number:
                sys.stdout.write(page(browser))
                sys.stdout.flush()
            due = time.monotonic() + start.delay
            fresh = False
            while not fresh:
                if number == start.count or stopped(due - time.monotonic()):
                    return 0
                due += start.delay
                try:
                    browser.refresh(history.add(source.snapshot(details=True)))
                    fresh = True
                except SlabmonError as error:
                    sys.stderr.write(f"slabmon: warning: {error}; retrying\n")
    return 0


def page(browser: Browser) -> str:
    """Return one page: the conclusion of the overview, the header's facts and the table, or why it
    has no rows."""
    at = time.strftime("%F %T", time.localtime(browser.window.snapshot.taken))
    head = [f"slabmon top - {at} - {browser.crumbs}"]
    if browser.place.view is not OVERVIEW:
        head.append(f"overview: {conclusion(Table(OVERVIEW, browser.window))}")
    head += facts(summarize(browser.window))
    head += filter(None, [browser.table.note, "" if len(browser.order) else browser.empty_reason])
    return "\n".join(head) + "\n\n" + to_table(browser.table, browser.order) + "\n"
