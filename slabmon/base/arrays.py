# SPDX-License-Identifier: Apache-2.0
"""Numpy arrays by element type, for annotations, and what numpy does by means that cost more.
Shapes are stated where an array is declared."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bytes = NDArray[np.bytes_]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
# Numbers of any type, or text and tuples as objects.
Values = NDArray[Any]
Records = NDArray[np.void]


def distinct(values: Values) -> Values:
    """Return the distinct values, in order. np.unique() takes several times as long, by hashing;
    like median() it imports numpy.ma, see there."""
    values = np.sort(values)
    first = np.concatenate([np.ones(min(len(values), 1), bool), values[1:] != values[:-1]])
    distinct: Values = values[first]
    return distinct


def contained(values: Values, among: Values) -> Bool:
    """Return which of the values are among others, as np.isin() does, which imports numpy.ma for
    some of them: see median()."""
    if not len(among):
        return np.zeros(values.shape, bool)
    known = np.sort(among)
    contained: Bool = known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values
    return contained


def median(values: F64) -> float:
    """Return the median of one number or more. np.median() imports numpy.ma: 1 MiB in each process
    that nothing else needs, and more than a web process without privileges may be able to read."""
    middle = np.sort(values)[(len(values) - 1) // 2 : len(values) // 2 + 1]
    return float(middle.mean())
