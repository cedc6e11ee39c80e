# SPDX-License-Identifier: Apache-2.0
"""Numpy arrays by element type, for annotations, and their distinct values. Shapes are stated where
an array is declared."""

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
    """Return the distinct values, in order. np.unique() does it by hashing, which takes several
    times as long, and imports numpy.ma for it, 1 MiB of a process that nothing else needs."""
    values = np.sort(values)
    first = np.concatenate([np.ones(min(len(values), 1), bool), values[1:] != values[:-1]])
    distinct: Values = values[first]
    return distinct
