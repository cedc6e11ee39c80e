"""Which rows have series of their own, so that one scrape has at most so many; the rest is `other`.

No counter ever falls: each counts what grew while the row was where it is. What a row had while
folded stays in `other`, what it had in its own series ends with that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Key = tuple[str, ...]

OTHER = "other"
# Series kept for the families that need no bound: about 350 on a host with everything enabled.
RESERVED = 500
# A row takes another's place after weighing more than so many times as much, for so long.
MARGIN, HOLD_SECONDS = 2.0, 600.0
_FLOOR = 4096  # Bytes that nobody loses a place for.
# Label sets that are gone are remembered, for should they return, unless there are many more of
# them than of those that are there.
_REMEMBERED, _SLACK = 3, 1000


def divide(series: int, rows: Mapping[str, int], cost: Mapping[str, int]) -> dict[str, int]:
    """Rows of each kind that have series of their own: equal parts of the series for each kind;
    what one does not need the others share. `cost` is in series a row."""
    found, kinds = {}, sorted(rows, key=lambda kind: rows[kind] * cost[kind])
    for number, kind in enumerate(kinds):
        part = max(0, series) // (len(kinds) - number)
        fits = rows[kind] * cost[kind] <= part
        found[kind] = rows[kind] if fits else max(0, part // cost[kind] - 1)  # one is `other`
        series -= rows[kind] * cost[kind] if fits else part
    return found


class Places:
    """Who of one kind has series of its own, and its counters. Rows are numbered as they come."""

    def __init__(self, counters: int) -> None:
        self._number: dict[Key, int] = {}
        self._last = np.zeros((0, counters), np.int64)  # as last seen in a snapshot
        self._own = np.zeros((0, counters), np.int64)  # as exported
        self._member = np.zeros(0, bool)  # when last seen
        self._there = np.zeros(0, bool)
        self._since = np.zeros(0)  # when it began to outweigh, or be outweighed; NaN: it does not
        self.other = np.zeros(counters, np.int64)
        self.most = 0  # rows at a time, ever
        self.folded = 0  # rows now

    def take(
        self, keys: Sequence[Key], counters: np.ndarray, weight: np.ndarray, volume: np.ndarray,
        room: int, now: float,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Takes distinct rows as they are now (seconds); counters are rows by counters. Returns
        which rows have series of their own, and the counters of all."""
        rows, new = self._rows(keys)
        before = self._member[rows]
        after = self._choose(keys, rows, weight, volume, room, now)
        self._there[:] = False
        self._there[rows], self._member[rows] = True, after
        last = self._last[rows]
        grown = np.where(counters < last, counters, counters - last)
        self._last[rows] = counters
        # A series that begins does so before it grows: rate() leaves a first value out.
        own = after & (before | new)
        self._own[rows[own]] += grown[own]
        self.other += grown[~own].sum(axis=0)
        self.folded = int((~after).sum())
        return after, self._own[rows]

    def _rows(self, keys: Sequence[Key]) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of rows, and which have not been there before."""
        if len(self._number) > _REMEMBERED * len(keys) + _SLACK:
            self._forget(keys)
        known = len(self._number)
        rows = np.array([self._number.setdefault(key, len(self._number)) for key in keys], np.int64)
        more = len(self._number) - known
        if more:
            empty = np.zeros((more, self._last.shape[1]), np.int64)
            self._last = np.concatenate((self._last, empty))
            self._own = np.concatenate((self._own, empty))
            self._member = np.concatenate((self._member, np.zeros(more, bool)))
            self._there = np.concatenate((self._there, np.zeros(more, bool)))
            self._since = np.concatenate((self._since, np.full(more, np.nan)))
        return rows, rows >= known

    def _forget(self, keys: Sequence[Key]) -> None:
        there = [key for key in keys if key in self._number]
        kept = np.array([self._number[key] for key in there], np.int64)
        self._number = {key: number for number, key in enumerate(there)}
        self._last, self._own = self._last[kept], self._own[kept]
        self._member, self._there = self._member[kept], self._there[kept]
        self._since = self._since[kept]

    def _choose(self, keys: Sequence[Key], rows: np.ndarray, weight: np.ndarray,
                 volume: np.ndarray, room: int, now: float) -> np.ndarray:  # fmt: skip
        named_other = np.array([set(key) == {OTHER} for key in keys], bool)
        self.most = max(self.most, len(keys))
        # Who was away has lost its place, so that one that comes and goes displaces nobody.
        member = self._member[rows] & self._there[rows] & ~named_other
        free = room - int(member.sum())
        if free < 0:
            member[_ranked(keys, member, weight, volume)[room:]] = False
        waiting = ~member & ~named_other
        if free > 0:
            member[_ranked(keys, waiting, weight, volume)[:free]] = True
        elif waiting.any():
            self._contest(rows, member, waiting, weight, now)
        found: np.ndarray = member
        return found

    def _contest(self, rows: np.ndarray, member: np.ndarray, waiting: np.ndarray,
                 weight: np.ndarray, now: float) -> None:  # fmt: skip
        """The heaviest that wait take the places of the lightest that have one, each after
        HOLD_SECONDS without a break."""
        light, heavy = np.flatnonzero(member), np.flatnonzero(waiting)
        light = light[np.argsort(weight[light], kind="stable")]
        heavy = heavy[np.argsort(-weight[heavy], kind="stable")]
        pairs = min(len(light), len(heavy))
        ahead = weight[heavy[:pairs]] > MARGIN * np.maximum(weight[light[:pairs]], _FLOOR)
        light, heavy = light[:pairs][ahead], heavy[:pairs][ahead]
        both = np.concatenate((rows[light], rows[heavy]))
        since = self._since[both]
        self._since[:] = np.nan
        self._since[both] = np.where(np.isnan(since), now, since)
        out = light[now - self._since[rows[light]] >= HOLD_SECONDS]
        into = heavy[now - self._since[rows[heavy]] >= HOLD_SECONDS]
        changes = min(len(out), len(into))
        member[out[:changes]], member[into[:changes]] = False, True
        self._since[rows[out[:changes]]] = self._since[rows[into[:changes]]] = np.nan


def _ranked(keys: Sequence[Key], which: np.ndarray, weight: np.ndarray, volume: np.ndarray
            ) -> list[int]:  # fmt: skip
    """Heaviest first; among equals by name, so that a daemon that starts anew chooses the same."""
    weights, volumes = weight.tolist(), volume.tolist()
    return sorted(np.flatnonzero(which).tolist(), key=lambda i: (-weights[i], -volumes[i], keys[i]))
