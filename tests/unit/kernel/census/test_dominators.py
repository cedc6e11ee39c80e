# SPDX-License-Identifier: Apache-2.0
"""Dominators among retainers, compared with those of networkx on small random graphs."""

from __future__ import annotations

import networkx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slabmon.kernel.census.heap import NONE
from slabmon.kernel.census.retainers import Retainers
from slabmon.kernel.census.retention import Dominators

ROOT = "root"
Edges = set[tuple[int, int]]


def dominators(parents: list[int], objects: int, first: Edges, between: Edges) -> list[int]:
    """The deepest retainer that dominates each object, NONE if none does, by networkx."""
    graph = networkx.DiGraph()
    for number, parent in enumerate(parents):
        graph.add_edge(ROOT if parent == NONE else ("retainer", parent), ("retainer", number))
    graph.add_edges_from((("retainer", one), ("object", other)) for one, other in first)
    graph.add_edges_from((("object", one), ("object", other)) for one, other in between)
    above = networkx.immediate_dominators(graph, ROOT)
    result = []
    for number in range(objects):
        node = above.get(("object", number), ROOT)
        while node != ROOT and node[0] != "retainer":
            node = above[node]
        result.append(NONE if node == ROOT else node[1])
    return result


def columns(edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array(sorted(edges), np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


@given(st.data())
def test_dominators_are_those_of_networkx(data: st.DataObject) -> None:
    count, objects = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 12))
    parents = [data.draw(st.integers(NONE, number - 1)) for number in range(count)]
    depth = np.zeros(count, np.int64)
    for number, parent in enumerate(parents):
        depth[number] = 0 if parent == NONE else depth[parent] + 1
    node = st.integers(0, objects - 1)
    first = data.draw(st.sets(st.tuples(st.integers(0, count - 1), node), max_size=12))
    between = data.draw(st.sets(st.tuples(node, node), max_size=30))
    retainers = Retainers(
        parent=np.array(parents),
        depth=depth,
        objects=np.zeros(0, np.int64),
        holder=np.zeros(0, np.int64),
    )
    found = Dominators(retainers, objects)
    found.follow(*columns(first), *columns(between))
    labels = found.holder.tolist()
    expected = dominators(parents, objects, first, between)
    unreached = {number for number, label in enumerate(labels) if label < NONE}
    assert [NONE if label < NONE else label for label in labels] == expected
    assert all(expected[number] == NONE for number in unreached)
