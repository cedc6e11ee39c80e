"""Guest tests run as root in a virtual machine and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.vm.guest import planted as module

if "SLABMON_VM_GUEST" not in os.environ:
    raise pytest.UsageError("tests/vm/guest runs in a guest: make test-vm KERNEL=6.12")


@pytest.fixture
def planted() -> Iterator[None]:
    """The planted module, loaded, with nothing counted yet; removed afterwards."""
    module.load()
    module.run("reset")
    yield
    module.unload()
