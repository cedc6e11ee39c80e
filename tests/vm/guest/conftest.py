# SPDX-License-Identifier: Apache-2.0
"""Guest tests run as root in a virtual machine and nowhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.vm.complaints import complaints
from tests.vm.guest import planted as module

if "SLABMON_VM_GUEST" not in os.environ:
    raise pytest.UsageError("tests/vm/guest runs in a guest: make test-vm KERNEL=6.12")


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Show a failure at once: a guest that is stopped does not come to the end, where they are."""
    if report.failed:
        text = f"\n{report.nodeid}\n{report.longreprtext}\n{report.capstdout}"
        print(text, file=sys.__stderr__, flush=True)


@pytest.fixture(autouse=True)
def healthy_kernel() -> Iterator[None]:
    """Fails the test during which the kernel printed a warning."""
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(log, 0, os.SEEK_END)
    yield
    lines = list(records(log))
    os.close(log)
    assert complaints(lines) == []


def records(log: int) -> Iterator[str]:
    """Return the messages that were not yet read from this descriptor of /dev/kmsg."""
    while True:
        try:
            yield os.read(log, 8192).decode(errors="replace").partition(";")[2]
        except BrokenPipeError:
            continue  # some were overwritten: continue with the oldest one left
        except BlockingIOError:
            return


@pytest.fixture
def planted() -> Iterator[None]:
    """The planted module, loaded, with nothing counted yet; removed afterwards."""
    module.load()
    module.run("reset")
    yield
    module.unload()
