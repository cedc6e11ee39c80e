# SPDX-License-Identifier: Apache-2.0
"""The C compiler, where one is installed. CI requires it by SLABMON_REQUIRE."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from slabmon.kernel.bpf.sources import BPF_DIR

INTEGERS = """
typedef unsigned char u8;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;
"""


def gcc() -> str:
    """Return the path of gcc. Without it the test is skipped, or fails if gcc is required."""
    path = shutil.which("gcc")
    if path is None:
        required = set(os.environ.get("SLABMON_REQUIRE", "").split(","))
        if required & {"gcc", "live"}:
            pytest.fail("gcc is required by SLABMON_REQUIRE but not installed")
        pytest.skip("gcc is not installed")
    return path


def run(arguments: Sequence[str]) -> str:
    """Run gcc; a failure shows its messages."""
    done = subprocess.run([gcc(), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(folder: Path, source: str, *flags: str) -> Path:
    """Compile one C source text with bpf/ on the include path; return the result."""
    text = folder / "test.c"
    text.write_text(source)
    result = folder / "test.out"
    run(["-O0", f"-I{BPF_DIR}", *flags, "-o", str(result), str(text)])
    return result


def defines(values: Mapping[str, int]) -> list[str]:
    """Return -D options as slabmon/kernel/loading/compile_child.py writes them."""
    return [
        f"-D{name}={value}ULL" if value > 0x7FFFFFFF else f"-D{name}={value}"
        for name, value in values.items()
    ]
