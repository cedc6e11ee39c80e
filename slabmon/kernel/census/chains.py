# SPDX-License-Identifier: Apache-2.0
"""Lists and trees of objects alike: objects of one cache that point to each other by links that lie
at the same offset in all of them (list_head, hlist_node, rb_node)."""

from __future__ import annotations

import numpy as np

from slabmon.base.arrays import I64, U64, Bool
from slabmon.kernel.census.contents import NONE, Subjects
from slabmon.kernel.census.referrers import Pointers

# A link's words point to the links of its neighbours, never into the middle of them.
_WORDS_OF_A_LINK = 3  # of an rb_node; the others have two
_NUMBER_BITS, _OFFSET_BITS = 26, 12


def find(subjects: Subjects, between: Pointers, wanted: Bool) -> I64:
    """Return the chain of each wanted subject and its neighbours, named by one of its members; NONE
    if it is in none.

    A neighbour must point back: next->prev, *pprev, a child's parent.
    """
    links = _links(subjects, between, wanted)
    forward = _packed(links.source, links.target, links.into)
    backward = np.sort(_packed(links.target, links.source, links.into))
    place = np.minimum(np.searchsorted(backward, forward), max(len(backward) - 1, 0))
    mutual = backward[place] == forward if len(backward) else np.zeros(0, bool)
    source, target = links.source[mutual], links.target[mutual]
    chain = np.full(len(subjects), NONE)
    members = np.unique(np.concatenate([source, target]))
    chain[members] = components(len(subjects), source, target)[members]
    return chain


def _links(subjects: Subjects, between: Pointers, wanted: Bool) -> Pointers:
    rows = np.flatnonzero(wanted[between.source] | wanted[between.target])
    word = between.offset[rows] - between.into[rows]
    rows = rows[(word >= 0) & (word < 8 * _WORDS_OF_A_LINK)]
    source, target = between.source[rows], between.target[rows]
    same = subjects.cache[source] == subjects.cache[target]
    same &= subjects.length[source] == subjects.length[target]
    return between.rows(rows[same])


def _packed(source: I64, target: I64, into: I64) -> U64:
    packed: I64 = (source << _NUMBER_BITS | target) << _OFFSET_BITS | np.minimum(
        into // 8, (1 << _OFFSET_BITS) - 1
    )
    return packed.astype(np.uint64)


def components(count: int, source: I64, target: I64) -> I64:
    """Return the connected component of each of `count` nodes, named by its smallest one
    (Shiloach and Vishkin, An O(log n) parallel connectivity algorithm, 1982)."""
    parent = np.arange(count)
    while True:
        one, other = parent[source], parent[target]
        apart = one != other
        if not apart.any():
            return parent
        low, high = np.minimum(one, other)[apart], np.maximum(one, other)[apart]
        np.minimum.at(parent, high, low)
        while True:
            grand = parent[parent]
            if np.array_equal(grand, parent):
                break
            parent = grand
