# SPDX-License-Identifier: Apache-2.0
"""Makes a tree of paths, cuts it to what is visible, and encodes it for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from slabmon.analysis.paths import REMARK, Frame, Paths
from slabmon.base.arrays import F64, I64, Bool

MAX_NODES = 8_000
# A smaller share of the whole is less than a pixel, even on a wide screen.
MIN_SHARE = 1e-4


@dataclass(frozen=True)
class Tree:
    """Nodes, each after its parent. Node 0 is the root, with frame and parent -1.

    Columns hold sums over the paths through each node: `size` of absolute bytes, `net` of bytes,
    `objects`, and `variance` in bytes squared. `nodes` counts the nodes of each subtree.
    """

    frames: Sequence[Frame]
    parent: I64  # (nodes,), as all columns
    frame: I64
    size: F64
    net: F64
    objects: F64
    variance: F64
    nodes: I64

    def __len__(self) -> int:
        return len(self.parent)


def build(paths: Paths) -> Tree:
    """Return the tree of these paths, built one level at a time."""
    lengths = np.array(list(map(len, paths.paths)), int)
    steps = np.fromiter(chain.from_iterable(paths.paths), np.int64, int(lengths.sum()))
    starts = np.cumsum(lengths) - lengths
    values = np.array([np.abs(paths.bytes), paths.bytes, paths.objects, paths.variance], float)
    width = max(1, len(paths.frames))
    parents, frames = [np.array([-1])], [np.array([-1])]
    sums = [values.sum(axis=1, keepdims=True)]
    rows, node, count = np.arange(len(lengths)), np.zeros(len(lengths), int), 1
    for depth in range(lengths.max(initial=0)):
        mask = lengths[rows] > depth
        rows, node = rows[mask], node[mask]
        distinct, index = np.unique(node * width + steps[starts[rows] + depth], return_inverse=True)
        index = index.reshape(-1)
        parents.append(distinct // width)
        frames.append(distinct % width)
        sums.append(
            np.array([np.bincount(index, column[rows], len(distinct)) for column in values])
        )
        node = count + index
        count += len(distinct)
    nodes = np.ones(count, int)
    end = count
    for above in reversed(parents[1:]):
        nodes += np.bincount(above, nodes[end - len(above) : end], count).astype(int)
        end -= len(above)
    size, net, objects, variance = np.concatenate(sums, axis=1)
    return Tree(
        paths.frames,
        np.concatenate(parents),
        np.concatenate(frames),
        size,
        net,
        objects,
        variance,
        nodes,
    )


def largest(tree: Tree, limit: int = MAX_NODES, share: float = MIN_SHARE) -> Bool:
    """Return a mask (nodes,) of the largest nodes and all their ancestors. It relies on children
    being no larger than their parent and coming after it."""
    order = np.argsort(-tree.size, kind="stable")[:limit]
    keep = np.zeros(len(tree), bool)
    keep[order] = True
    keep &= tree.size >= tree.size[0] * share
    keep[0] = True
    return keep


def to_json(tree: Tree, limit: int = MAX_NODES) -> dict[str, Any]:
    """Return the `limit` largest nodes in preorder, larger siblings first, as columns.

    `names` and `kinds` describe frames; `depth`, `frame`, `size`, `net`, `objects` and `error`
    (one standard error, in bytes) describe nodes. Nodes too small to be drawn are merged into one
    per parent, of kind REMARK, named after their number.
    """
    keep = largest(tree, limit)
    columns = np.array([tree.size, tree.net, tree.objects, tree.variance, tree.nodes])
    candidates = np.arange(1, len(tree))[keep[tree.parent[1:]]]
    large, small = candidates[keep[candidates]], candidates[~keep[candidates]]
    # Largest last, for they are taken from the end.
    children: dict[int, list[int]] = {}
    for node in large[np.argsort(tree.size[large], kind="stable")].tolist():
        children.setdefault(int(tree.parent[node]), []).append(node)
    folded = np.array(
        [np.bincount(tree.parent[small], column[small], len(tree)) for column in columns]
    )
    names: dict[Frame, int] = {}
    rows: list[tuple[int, ...]] = []

    def add(depth: int, frame: Frame, values: F64) -> None:
        size, net, objects, variance, _ = values.tolist()
        rows.append(
            (
                depth,
                names.setdefault(frame, len(names)),
                round(size),
                round(net),
                round(objects),
                round(variance**0.5),
            )
        )

    waiting = [(0, 0)]
    while waiting:
        depth, node = waiting.pop()
        if node < 0:
            values = folded[:, -node - 1]
            add(depth, Frame(f"[{int(values[-1]):,} smaller]", REMARK), values)
            continue
        frame = tree.frames[tree.frame[node]] if node else Frame("all", REMARK)
        add(depth, frame, columns[:, node])
        if folded[-1, node]:
            waiting.append((depth + 1, -node - 1))
        waiting.extend((depth + 1, child) for child in children.get(node, ()))
    keys = ("depth", "frame", "size", "net", "objects", "error")
    return {
        "names": [frame.name for frame in names],
        "kinds": [frame.kind for frame in names],
        **dict(zip(keys, map(list, zip(*rows, strict=True)), strict=True)),
    }
