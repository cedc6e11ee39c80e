"""Paths as a tree, cut to what can be seen, and as the numbers that the page draws it from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slabmon.report.paths import REMARK, Frame, Paths

MAX_NODES = 8_000
# Narrower than this share of the whole is less than a pixel, even on a wide screen.
MIN_SHARE = 1e-4


@dataclass(frozen=True)
class Tree:
    """Nodes, each behind its parent; node 0 is the root, with frame and parent -1.

    Columns hold the sums over the paths through each node: `size` of absolute bytes, `net` of
    bytes, `objects`, `variance`.
    """

    frames: Sequence[Frame]
    parent: np.ndarray
    frame: np.ndarray
    size: np.ndarray
    net: np.ndarray
    objects: np.ndarray
    variance: np.ndarray

    def __len__(self) -> int:
        return len(self.parent)


def build(paths: Paths) -> Tree:
    """The tree of these paths."""
    width = max(1, len(paths.frames))
    nodes: dict[int, int] = {}
    parents, frames = [-1], [-1]
    ends = np.zeros(len(paths.paths), int)
    for row, path in enumerate(paths.paths):
        node = 0
        for frame in path:
            key = node * width + frame
            child = nodes.get(key)
            if child is None:
                child = nodes[key] = len(parents)
                parents.append(node)
                frames.append(frame)
            node = child
        ends[row] = node
    columns = [np.bincount(ends, values, len(parents)).tolist()
               for values in (np.abs(paths.bytes), paths.bytes, paths.objects,
                              paths.variance)]  # fmt: skip
    for column in columns:
        for node in range(len(parents) - 1, 0, -1):
            column[parents[node]] += column[node]
    return Tree(paths.frames, np.array(parents), np.array(frames), *map(np.array, columns))


def largest(tree: Tree, most: int = MAX_NODES, share: float = MIN_SHARE) -> np.ndarray:
    """A mask of the nodes to keep: the largest, with all above them. No child is larger than its
    parent, and none comes before it."""
    order = np.argsort(-tree.size, kind="stable")[:most]
    keep = np.zeros(len(tree), bool)
    keep[order] = True
    keep &= tree.size >= tree.size[0] * share
    keep[0] = True
    return keep


def to_json(tree: Tree) -> dict[str, Any]:
    """The tree in preorder, larger siblings first, as columns of numbers.

    `names` and `kinds` are of frames; `depth`, `frame`, `size`, `net`, `objects`, `error` (one
    standard error in bytes) of nodes. What is too small to be drawn is one node per parent, of
    kind REMARK, named by how many there are.
    """
    keep = largest(tree)
    children: dict[int, list[int]] = {}
    folded: dict[int, list[int]] = {}
    inside = keep[tree.parent] & (np.arange(len(tree)) > 0)
    for node in np.flatnonzero(inside).tolist():
        (children if keep[node] else folded).setdefault(int(tree.parent[node]), []).append(node)
    below = _descendants(tree)
    columns = [column.tolist() for column in (tree.size, tree.net, tree.objects, tree.variance)]
    names: dict[Frame, int] = {}
    rows: list[tuple[int, ...]] = []

    def add(depth: int, frame: Frame, nodes: list[int]) -> None:
        size, net, objects, variance = (sum(column[node] for node in nodes) for column in columns)
        rows.append((depth, names.setdefault(frame, len(names)), round(size), round(net),
                     round(objects), round(variance**0.5)))  # fmt: skip

    waiting = [(0, 0)]
    while waiting:
        depth, node = waiting.pop()
        if node < 0:
            small = folded[-node - 1]
            count = sum(below[node] for node in small)
            add(depth, Frame(f"[{count:,} smaller]", REMARK), small)
            continue
        add(depth, Frame("all", REMARK) if node == 0 else tree.frames[tree.frame[node]], [node])
        if node in folded:
            waiting.append((depth + 1, -node - 1))
        inner = sorted(children.get(node, ()), key=columns[0].__getitem__)
        waiting.extend((depth + 1, child) for child in inner)
    keys = ("depth", "frame", "size", "net", "objects", "error")
    return {
        "names": [frame.name for frame in names], "kinds": [frame.kind for frame in names],
        **dict(zip(keys, map(list, zip(*rows, strict=True)), strict=True)),
    }  # fmt: skip


def _descendants(tree: Tree) -> list[int]:
    """How many nodes are at and below each."""
    counts = [1] * len(tree)
    parents = tree.parent.tolist()
    for node in range(len(counts) - 1, 0, -1):
        counts[parents[node]] += counts[node]
    return counts
