# SPDX-License-Identifier: Apache-2.0
"""Memory that goes back to the kernel."""

from __future__ import annotations

import gc
import weakref

from slabmon.runtime.tuning import release_memory


class Node:
    """Refers to itself."""

    def __init__(self) -> None:
        self.self = self


def test_garbage_in_cycles_is_released() -> None:
    gc.disable()
    try:
        gone = weakref.ref(Node())
        assert gone() is not None
        release_memory()
        assert gone() is None
    finally:
        gc.enable()
