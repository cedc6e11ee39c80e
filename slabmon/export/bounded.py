"""Families of rows that are bounded: values of rows, taken to the places they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slabmon.export.bounds import OTHER, Key, Places
from slabmon.export.catalogue import Metric
from slabmon.export.kinds import Kind
from slabmon.model import Snapshot

_NONE = np.int64(-1 << 63)  # no value, such as of a cache without slabinfo


@dataclass(frozen=True)
class Rows:
    """Distinct rows of one kind. `values` are rows by metrics; _NONE is none."""

    keys: Sequence[Key]
    values: np.ndarray

    @classmethod
    def of(cls, kind: Kind, metrics: Sequence[Metric[Snapshot]], snapshot: Snapshot) -> Rows:
        """A snapshot's rows; equal keys are added up: one duplicate would fail a whole scrape."""
        rows = kind.rows(snapshot)
        keys = [kind.key(row) for row in rows]
        values = np.full((len(keys), len(metrics)), _NONE)
        for column, metric in enumerate(metrics):
            found = [metric.value(row) for row in rows]
            values[:, column] = [_NONE if value is None else value for value in found]
        number: dict[Key, int] = {}
        to = [number.setdefault(key, len(number)) for key in keys]
        if len(number) == len(keys):
            return cls(keys, values)
        known = np.full((len(number), len(metrics)), False)
        added = np.zeros(known.shape, np.int64)
        np.logical_or.at(known, to, values != _NONE)
        np.add.at(added, to, np.where(values == _NONE, 0, values))
        return cls(list(number), np.where(known, added, _NONE))


class Table:
    """All families of one kind, and the places of its rows over time."""

    def __init__(self, kind: Kind, metrics: Sequence[Metric[Snapshot]]) -> None:
        self.kind, self.metrics = kind, metrics
        self._counters = [i for i, metric in enumerate(metrics) if metric.kind == "counter"]
        names = [metric.name.removeprefix("slabmon_") for metric in metrics]
        self._weight = [names.index(name) for name in kind.weight]
        self._volume = names.index(kind.volume)
        self.places = Places(len(self._counters))
        self._ever_folded = False

    def add(self, families: Mapping[str, Any], rows: Rows, room: int, now: float) -> None:
        """Adds samples to their families: those of `room` rows, and OTHER."""
        values = rows.values
        weight = values[:, self._weight].max(axis=1, initial=0)
        own, counters = self.places.take(rows.keys, values[:, self._counters], weight,
                                         values[:, self._volume], room, now)  # fmt: skip
        self._ever_folded |= self.places.folded > 0
        keys = [rows.keys[i] for i in np.flatnonzero(own).tolist()]
        values, rest = values[own], values[~own]
        values[:, self._counters] = counters[own]
        other = np.where(rest == _NONE, 0, rest).sum(axis=0)
        other[self._counters] = self.places.other
        told = ((rest != _NONE).any(axis=0) | self._ever_folded).tolist()
        for column, metric in enumerate(self.metrics):
            add = families[metric.name].add_metric
            for key, value in zip(keys, values[:, column].tolist(), strict=True):
                if value != _NONE:
                    add(key, value)
            if told[column] and metric.additive:
                add((OTHER,) * len(self.kind.labels), other[column].item())
