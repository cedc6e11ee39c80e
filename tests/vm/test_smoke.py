"""One kernel booted from the host's own test run: the test bed works, the planted module too."""

from __future__ import annotations

import pytest

from tests.vm.__main__ import pytest_command
from tests.vm.config import all_locked, kernels
from tests.vm.machine import run_guest

KERNEL = "6.12"


def test_every_kernel_is_locked() -> None:
    """A kernel added to kernels.toml must be pinned, or a fresh checkout cannot boot it."""
    assert list(all_locked()) == list(kernels())


@pytest.mark.vm
def test_slabmon_and_the_planted_module_agree_on_one_kernel() -> None:
    """A quick part of the guest tests; `make test-vm` runs them all on every kernel."""
    expression = "consistent and gfp or caches_of_the_module or locked_walk"
    result = run_guest(KERNEL, pytest_command(expression=expression), timeout=400)
    assert result.exit_code == 0, result.output
