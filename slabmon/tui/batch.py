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
from slabmon.sources.lookback import PolledJudge, assessment, fill_present, past_of
from slabmon.sources.recording import RecordingSource
from slabmon.tui.browser import Browser
from slabmon.tui.header import facts
from slabmon.tui.start import Start
from slabmon.views.catalogue import VIEWS
from slabmon.views.summary import summarize
from slabmon.views.window import WindowBuilder


def run(source: SnapshotSource, start: Start) -> int:
    """Print until a signal arrives. Raises SlabmonError if the first reading fails; later failures
    are warnings, and it retries."""
    past, replayed = past_of(source), isinstance(source, RecordingSource)
    judge = None
    if past is not None and not replayed:  # a daemon has its own verdicts
        judge = PolledJudge(lambda: assessment(past, None))
        judge.wanted = VIEWS[start.view].judged or VIEWS[start.view].windowed
    history = WindowBuilder(VIEWS.values(), judge or Observer())
    with source, stop_signals() as stopped:
        if not replayed:
            fill_present(history, source)
        browser = start.browser(history.add(source.snapshot(details=True)))
        if browser.place.view.census and browser.window.snapshot.census is None:
            request_census(source)
        for number in count(1):
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
    """Return one page: the header's facts and the table."""
    at = time.strftime("%F %T", time.localtime(browser.window.snapshot.taken))
    head = [f"slabmon top - {at} - {browser.crumbs}"]
    head += facts(summarize(browser.window))
    head += filter(None, [browser.table.note])
    return "\n".join(head) + "\n\n" + to_table(browser.table, browser.order) + "\n"
