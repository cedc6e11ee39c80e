# SPDX-License-Identifier: Apache-2.0
"""Work in a copy of the process."""

from __future__ import annotations

import os

import pytest

from slabmon.base.errors import UsageError
from slabmon.runtime.fork import apart


def test_what_it_returns_comes_from_another_process() -> None:
    pid, found = apart(lambda: (os.getpid(), {"a": [1.5, b"x" * 1_000_003]}))
    assert pid != os.getpid()
    assert found == {"a": [1.5, b"x" * 1_000_003]}


def test_what_it_raises_is_raised_here() -> None:
    def fail() -> None:
        raise UsageError("a reason")

    with pytest.raises(UsageError, match="a reason"):
        apart(fail)


def test_a_copy_that_dies_is_an_error() -> None:
    with pytest.raises(ChildProcessError):
        apart(lambda: os._exit(1))


def test_what_cannot_be_told_is_an_error() -> None:
    with pytest.raises(ChildProcessError):
        apart(lambda: lambda: None)
