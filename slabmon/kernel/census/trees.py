# SPDX-License-Identifier: Apache-2.0
"""Objects in one XArray or one maple tree are alike: where the struct of some is known, and they
are of one struct, the others are of it, too."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import I64, U64, Bool, distinct
from slabmon.kernel.census.cache_types import CacheTypes
from slabmon.kernel.census.claims import Weight
from slabmon.kernel.census.contents import NONE, UNIT, Subjects
from slabmon.kernel.census.evidence import groups
from slabmon.kernel.census.members import Structs
from slabmon.kernel.census.memory import Memory
from slabmon.kernel.census.memory_map import PAGE_BYTES
from slabmon.kernel.census.reading import Reading
from slabmon.kernel.census.referrers import Pointers
from slabmon.kernel.census.signatures import Namer

_MAPLE_NODE = np.uint64(0xFF)  # low bits of a pointer to a node (lib/maple_tree.c)
_ROOT = np.uint64(1)  # MA_ROOT_PARENT: the parent is the tree
_MOST_DEPTH = 8
_TREE_BITS = 26
_FEW = 4  # times as many objects of a tree as those whose struct is known
_PIECE = 4096  # nodes read at once


class Entries(NamedTuple):
    """Subjects in trees: the number of the tree, and the subject."""

    tree: I64
    target: I64


def find(
    memory: Memory,
    read: Reading,
    subjects: Subjects,
    named: Pointers,
    caches: CacheTypes,
    structs: Structs,
) -> list[tuple[str, Entries]]:
    """Return what kind of trees there are, and the subjects in them."""
    found = []
    for cache, struct in caches.types.items():
        if structs.name(struct) == "xa_node":
            root = structs.offset(struct, "array")
            kind = "an XArray"
        elif structs.name(struct) == "maple_node":
            root, kind = 0, "a maple tree"
        else:
            continue
        offsets = _offsets(named, cache)
        if root is None or not len(offsets):
            continue
        nodes = read.objects_in_use(cache)
        owners = memory.words(nodes + np.uint64(root))
        if kind == "a maple tree":
            owners = _roots(nodes, owners)
        others = ~_of_pages(read, caches, structs, owners)
        nodes, owners = nodes[others], owners[others]
        found.append((kind, _entries(memory, read, subjects, nodes, owners, offsets)))
    return found


def follow(namer: Namer, trees: list[tuple[str, Entries]], structs: Structs) -> None:
    """Give objects of trees the struct that all others have whose struct is known, unless these
    are few: one of which something wrong was said would speak for hundreds."""
    for kind, entries in trees:
        known = namer.types[entries.target]
        sizes = np.bincount(entries.tree)
        enough = _FEW * np.bincount(entries.tree[known != 0], minlength=len(sizes)) >= sizes
        pairs = distinct(entries.tree[known != 0] << _TREE_BITS | known[known != 0])
        first, counts = np.unique(pairs >> _TREE_BITS, return_index=True, return_counts=True)[1:]
        of_one = pairs[first[counts == 1]].tolist()
        struct_of = {pair >> _TREE_BITS: pair & (1 << _TREE_BITS) - 1 for pair in of_one}
        rest = np.flatnonzero(known == 0)
        for tree, rows in groups(entries.tree[rest]):
            if tree in struct_of and enough[tree]:
                objects = distinct(entries.target[rest[rows]])
                objects = objects[namer.fits(struct_of[tree], objects)]
                text = f"struct {structs.name(struct_of[tree])}, in {kind} with others"
                namer.set_type(objects, struct_of[tree], text, Weight.LINK)


def _offsets(named: Pointers, cache: int) -> I64:
    """Return the offsets at which objects of a cache point to the start of a subject."""
    rows = np.flatnonzero((named.source == cache) & (named.into == 0))
    return distinct(named.offset[rows].astype(np.int64))


def _of_pages(read: Reading, caches: CacheTypes, structs: Structs, addresses: U64) -> Bool:
    """Return which addresses lie in an inode or a process' memory descriptor: those are trees of
    pages, and of areas, which have a cache of their own."""
    names = {cache: structs.name(struct) for cache, struct in caches.types.items()}
    inodes = [cache for cache, name in names.items() if "inode" in name or name == "mm_struct"]
    number = read.slabs.find(addresses)
    inside = np.flatnonzero(number != NONE)
    result = np.zeros(len(addresses), bool)
    cache = read.slabs.cache[read.slabs.rows_of(number[inside])]
    result[inside] = np.isin(cache, inodes)
    return result


def _roots(nodes: U64, parents: U64) -> U64:
    """Return what identifies the tree of each node of maple trees: the parent of its root."""
    order = np.argsort(nodes)
    ordered = nodes[order]
    roots = parents.copy()
    for _ in range(_MOST_DEPTH):
        up = np.flatnonzero(roots & _ROOT == 0)
        place = np.minimum(np.searchsorted(ordered, roots[up] & ~_MAPLE_NODE), len(nodes) - 1)
        known = ordered[place] == roots[up] & ~_MAPLE_NODE
        if not known.any():
            break
        roots[up[known]] = parents[order[place[known]]]
    return roots


def _entries(
    memory: Memory, read: Reading, subjects: Subjects, nodes: U64, owners: U64, offsets: I64
) -> Entries:
    """Return the subjects that words of nodes at these offsets point to."""
    _, tree = np.unique(owners, return_inverse=True)
    size = int(offsets[-1]) + 8
    end = np.uint64(max(pages.end for pages in read.ranges) * PAGE_BYTES)
    trees, targets = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, len(nodes), _PIECE):
        part = slice(start, start + _PIECE)
        words = memory.gather(nodes[part], size).view(np.uint64)[:, offsets // 8]
        row, column = np.nonzero(words - np.uint64(read.direct_map) < end)
        unit = (words[row, column] - np.uint64(read.direct_map)) // np.uint64(UNIT)
        held = subjects.holds(unit.astype(np.int64))
        target, into = subjects.find(words[row[held], column[held]])
        starts = (target != NONE) & (into == 0)
        trees.append(tree[part][row[held][starts]])
        targets.append(target[starts])
    return Entries(np.concatenate(trees), np.concatenate(targets))
