# SPDX-License-Identifier: Apache-2.0
"""Progress bars on standard error, if that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

T = TypeVar("T")

# Shorter waits show nothing.
_PATIENCE_SECONDS = 1.0
_TICKS_PER_SECOND = 10


def track(items: Iterable[T], count: int, title: str) -> Iterator[T]:
    """Yield the items, `count` of them, and show a bar once they have taken a second."""
    if not sys.stderr.isatty():
        yield from items
        return
    start = time.monotonic()
    taken = 0
    source = iter(items)
    for item in source:
        yield item
        taken += 1
        if time.monotonic() - start > _PATIENCE_SECONDS:
            break
    else:
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(title, total=count, completed=taken)
        for item in source:
            yield item
            bars.advance(bar)


@contextmanager
def share_bar(title: str) -> Iterator[Callable[[float], None]]:
    """Return a function to be called, again and again, with the share of the work that is done: it
    shows a bar once the work has taken a second."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    due = time.monotonic() + _PATIENCE_SECONDS
    update: Callable[[float], None] | None = None
    with ExitStack() as stack:

        def show(share: float) -> None:
            nonlocal update
            if update is None and time.monotonic() >= due:
                update = _open_bar(title, stack)
            if update is not None:
                update(share)

        yield show


def _open_bar(what: str, stack: ExitStack) -> Callable[[float], None]:
    from rich.console import Console
    from rich.progress import Progress

    bars = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
    bar = bars.add_task(what, total=None)  # it pulses until a share is known

    def update(share: float) -> None:
        bars.update(bar, total=1.0 if share else None, completed=share)

    return update


def wait(seconds: float, what: str) -> None:
    """Sleep, with a bar if it is for more than a second."""
    end = time.monotonic() + seconds
    ticks = round(seconds * _TICKS_PER_SECOND) if seconds > _PATIENCE_SECONDS else 0
    for _ in track(range(ticks), ticks, what):
        if time.monotonic() >= end:
            break
        time.sleep(min(1 / _TICKS_PER_SECOND, max(0.0, end - time.monotonic())))
    time.sleep(max(0.0, end - time.monotonic()))
