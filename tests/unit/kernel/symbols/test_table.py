# SPDX-License-Identifier: Apache-2.0
"""Names of many symbols at once."""

from __future__ import annotations

import numpy as np

from slabmon.kernel.symbols.kallsyms import parse

TEXT = 0xFFFFFFFF81000000
FUNCTIONS = 997


def test_names_of_many_are_those_of_each() -> None:
    lines = [f"{TEXT + 16 * i:016x} t function_{i}\n" for i in range(FUNCTIONS)]
    lines += [f"{TEXT + 16 * i:016x} t alias_{i}\n" for i in range(0, FUNCTIONS, 7)]
    lines += [f"{TEXT + 16 * (FUNCTIONS + i):016x} t same\n" for i in range(3)]
    table, _, _ = parse("".join(lines).encode())
    starts = np.unique(table.addresses())
    order = np.random.default_rng(0).permutation(len(starts))
    names = table.names_of(starts[order])
    assert names == [(table.at(int(start)) or ("",))[0] for start in starts[order]]
    assert {"function_7", "same", "same#2", "same#3"} <= set(names)
    assert table.names_of(starts[:0]) == []
