# SPDX-License-Identifier: Apache-2.0
"""Families of caches, and names near to a mistyped one."""

from __future__ import annotations

import pytest

from slabmon.base.names import cache_family, kernel_name, near_names, with_near_names


@pytest.mark.parametrize(
    ("cache", "family"),
    [
        ("kmalloc-64", "kmalloc-64"),
        ("kmalloc-cg-4k", "kmalloc-4k"),
        ("kmalloc-rcl-96", "kmalloc-96"),
        ("kmalloc-rnd-15-8k", "kmalloc-8k"),
        ("kmalloc-part-01-8", "kmalloc-8"),
        ("dma-kmalloc-1M", "kmalloc-1M"),
        ("kmalloc-64#2", "kmalloc-64"),
        ("kmalloc-large", "kmalloc-large"),
        ("msg_msg-64", "msg_msg-64"),
        ("bio-256#13", "bio-256"),
        ("dentry", "dentry"),
        ("[unresolved]", "[unresolved]"),
    ],
)
def test_a_family_is_all_kinds_of_a_kmalloc_cache(cache: str, family: str) -> None:
    """Names of enum kmalloc_cache_type, from 5.10 to 7.3."""
    assert cache_family(cache) == family


def test_the_number_of_a_second_cache_is_not_the_kernels() -> None:
    assert [kernel_name(name) for name in ("a#2", "a#b", "#3", "a")] == ["a", "a#b", "", "a"]


def test_near_names_ignore_case_and_come_nearest_first() -> None:
    names = ["kmalloc-64", "kmalloc-96", "UNIX", "UNIX-STREAM", "dentry"]
    assert near_names("kmaloc-64", names)[0] == "kmalloc-64"
    assert near_names("unix", names) == ["UNIX", "UNIX-STREAM"]
    assert near_names("stream", names) == ["UNIX-STREAM"]
    assert near_names("zz", names) == []


def test_a_problem_says_what_to_do_where_no_name_is_near() -> None:
    assert with_near_names("x=a: no x", "a", []) == "x=a: no x"
    assert with_near_names("x=a: no x", "a", [], "see y") == "x=a: no x; see y"
    assert with_near_names("x=ab: no x", "abcd", ["abce"], "z") == "x=ab: no x; near names: abce"
